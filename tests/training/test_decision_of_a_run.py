"""What a run says of its cosines: fitted on validation classes, kept in the bundle, shown on test classes."""

import json

import numpy as np
import pytest
from PIL import Image

import pullpush
from pullpush.errors import UserError
from pullpush.training import reranking
from pullpush.training.reranking import named_rerank


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Forty classes of three images, each of a colour of its own."""
    folder, rng = tmp_path_factory.mktemp("coloured") / "data", np.random.default_rng(0)
    for name in range(40):
        (folder / f"{name:02}").mkdir(parents=True)
        colour = rng.integers(0, 200, 3)
        for number in range(3):
            pixels = (colour + rng.integers(0, 50, (40, 40, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name:02}" / f"{number}.png")
    return folder


@pytest.mark.parametrize("views", ["none", "flip"])
def test_a_run_decides_on_its_validation_classes(coloured, small, tmp_path, capsys, views: str) -> None:
    seen = "none" if views == "none" else {"query": ["1"], "gallery": ["1", "1 flip"]}
    options = small | {"steps": 2, "views": seen, "rerank": "auto", "table": True}
    options["data"] = {"source": str(coloured), "test": 0.3, "validation": 0.3}
    run = pullpush.train(**options, out=str(tmp_path / "run"))
    model, metrics = pullpush.load(run), json.loads((run / "metrics.json").read_text())
    assert model.decision is not None
    assert model.decision.classes == 12
    assert model.decision.naming is not None
    assert model.decision.naming.shots == (1, 2)
    assert metrics["verification"]["decision"]["classes"] == 12
    assert 0 <= metrics["verification"]["calibration_error"] <= 1
    assert set(metrics["verification"]) >= {"before", "after", "calibration_error", "decision"} | (
        {"views"} if views == "flip" else set()
    )
    assert metrics["verification"]["after"]["positives"] == 12 * 3
    assert "verification" not in metrics["test"]
    chosen = metrics["rerank"]
    assert (chosen["validation"]["classes"], chosen["validation"]["items"]) == (12, 36)
    assert chosen["validation"]["chosen"]["recall@1"] >= chosen["validation"]["none"]["recall@1"]
    assert str(model.rerank) == chosen["options"]
    assert ("reranked" in metrics["test"]) == (chosen["options"] != "none")
    assert ("re-ranked (" in capsys.readouterr().out) == (chosen["options"] != "none")
    images = [coloured / "00" / f"{n}.png" for n in range(2)] + [coloured / "01" / "0.png"]
    found = model.same(images[0], images[1:])
    assert ((found >= 0) & (found <= 1)).all()


def test_too_few_validation_classes_are_said_plainly(small, tmp_path, capsys) -> None:
    run = pullpush.train(**small | {"steps": 2}, out=str(tmp_path / "run"), quiet=False)
    assert pullpush.load(run).decision is None
    assert "no decision: fewer than 10 validation classes" in capsys.readouterr().out
    assert "decision" not in json.loads((run / "model" / "config.json").read_text())


@pytest.mark.parametrize("given", ["expnd=3", "expand", "expand=1000", "best"])
def test_what_is_no_re_ranking_ends_before_the_first_step(small, tmp_path, given: str) -> None:
    if given == "expand":
        assert named_rerank(given) is None  # the best of that method
        return
    with pytest.raises(UserError, match="rerank"):
        pullpush.train(**small | {"rerank": given}, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_too_many_validation_items_leave_the_choice_out(small, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(reranking, "MOST", 3)
    run = pullpush.train(**small | {"steps": 2, "rerank": "auto"}, out=str(tmp_path / "run"))
    assert "re-ranking is not chosen: 8 validation items would take minutes" in capsys.readouterr().out
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["rerank"] == {"options": "none", "validation": None}
    assert metrics["retrieval"] == []
    assert "rerank" not in json.loads((run / "model" / "config.json").read_text())
