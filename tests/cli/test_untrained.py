"""`pullpush evaluate` of models that were not trained here: the same tables and report, and beside a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml

from pullpush import evaluate, load
from pullpush.cli import main
from pullpush.data.items import Items
from pullpush.data.sources import open_items
from pullpush.data.synthetic import make_tree
from pullpush.encoders import ImageEncoder, save
from pullpush.evaluation import evaluate_image_text
from pullpush.reports import layout, projection
from pullpush.runs.reader import RunFolder
from pullpush.studies.compare import compare
from pullpush.studies.compare_page import draw_comparison
from pullpush.training import train
from tests.support.tiny_models import tiny_clip

NAME = "timm:test_resnet"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs by class with texts, a file of weights, and a tiny CLIP."""
    folder = tmp_path_factory.mktemp("untrained")
    photos = make_tree("folder", folder / "photos")
    for image in sorted(photos.rglob("*.*")):
        image.with_suffix(".txt").write_text(f"a {image.parent.name}\nnumber {image.stem}\n")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet").state_dict(), folder / "weights.pt")
    tiny_clip(folder / "clip")
    return folder


@pytest.fixture(scope="module")
def evaluated(root: Path) -> Path:
    """The folder of an evaluation, drawn."""
    words = ["--data", str(root / "photos"), "--out", str(root / "as-it-is")]
    with pytest.MonkeyPatch.context() as patch:  # UMAP takes many seconds to begin
        patch.setattr(projection, "project", lambda x, seed: (np.asarray(x[:, :2]), "two columns"))
        assert main(["evaluate", f"hf:{root / 'clip'}", *words]) == 0
    return root / "as-it-is"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are not drawn, which takes seconds."""
    monkeypatch.setattr(layout, "draw", lambda folder: (Path(folder) / "report.html", []))


def _items(root: Path) -> Items:
    return open_items(root / "photos")


@pytest.mark.usefixtures("undrawn")
def test_the_figures_are_those_of_the_models_embeddings(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weights", str(root / "weights.pt"), "--data", str(root / "photos"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", NAME, *words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    items, model = _items(root), load(NAME, weights=root / "weights.pt")
    embeddings = model.embed([items.path(row) for row in range(len(items))])
    wanted = evaluate(embeddings, items.labels, items.ids).metrics
    run = RunFolder(tmp_path / "out")
    for name in ("recall@1", "map@r", "mrr"):
        assert said[name] == pytest.approx(wanted[name])
        assert run.metrics["test"]["after"][name] == pytest.approx(wanted[name])
    assert {"knn@1", "identification"} <= said.keys()
    assert {"naming", "verification", "seconds"} <= run.metrics.keys()
    np.testing.assert_allclose(run.embeddings("test", "after"), embeddings, atol=1e-5)
    assert run.evaluation("test", "after").metrics["recall@1"] == pytest.approx(wanted["recall@1"])


def test_the_report_says_that_it_was_not_trained_here(
    root: Path, evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (evaluated / "report.html").read_text()
    assert f"hf:{root / 'clip'}, not trained here, on photos" in page
    assert "Nobody knows here what it was trained on" in page
    assert "What texts find among the images of the data" in page
    assert "of the texts of the data find an image of their own first" in page
    own, _, _ = page.partition('<section id="numbers">')
    for word in ("after training", "before training", "unseen classes", "is not in the run folder"):
        assert word not in own
    assert yaml.safe_load((evaluated / "config.yaml").read_text())["model"] == f"hf:{root / 'clip'}"
    assert main(["diagnose", str(evaluated)]) == 2
    assert "not trained here: nothing to diagnose" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_beside_a_run_on_its_test(root: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "data": {"source": str(root / "photos"), "test": 0.5, "validation": 0.25},
        "encoder": {"name": "test_resnet", "weights": str(root / "weights.pt"), "size": 160, "head": "none"},
        "batch": {"classes": 2, "samples": 2},
    }
    off = {"tensorboard": False, "report": False, "rerank": "none", "table": False, "views": {"choose": "none"}}
    run = Path(train(**options, **off, steps=1, out=str(tmp_path / "run"), quiet=True))
    words = ["--weights", str(root / "weights.pt"), "--data", str(run), "--out", str(tmp_path / "as-it-is")]
    assert main(["evaluate", NAME, *words]) == 0
    found = compare(tmp_path / "as-it-is", run)
    untrained = RunFolder(tmp_path / "as-it-is")
    assert len(untrained.items) == len(RunFolder(run).split("test"))
    # what the run was before it was trained is the model as it is
    assert found.score("recall@1", 0).after.mean == pytest.approx(found.score("recall@1", 1).before)
    assert found.options == {}
    page = draw_comparison(found, tmp_path / "compare.html").read_text()
    assert "not looked at, as it was not trained here" in page
    both = compare(tmp_path / "as-it-is", tmp_path / "as-it-is")
    assert np.isfinite(both.score("recall@1", 1).after.mean)
    assert not both.won(1).any()


def test_texts_are_measured_with_a_joint_model(root: Path, evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items, model = _items(root), load(f"hf:{root / 'clip'}")
    each = zip(items.table["label"], items.table["text"], strict=True)
    texts = sorted({(label, text) for label, own in each for text in own})
    wanted = evaluate_image_text(
        model.embed([items.path(row) for row in range(len(items))]),
        items.labels,
        model.embed_text([text for _, text in texts]),
        torch.tensor([label for label, _ in texts]),
    ).metrics
    said = RunFolder(evaluated).metrics["test"]["after"]
    for metric, value in wanted.items():
        assert said[metric] == pytest.approx(value), metric
    assert len(RunFolder(evaluated).texts("test")) == len(texts)
    assert main(["evaluate", f"hf:{root / 'clip'}", "--data", str(evaluated), "--nmi", "false"]) == 0
    assert "between images and texts" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_images_that_have_texts_alone(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without classes there is nothing to find among images, but between images and texts there is."""
    items = _items(root)
    frame = items.table.assign(label=range(len(items)), id=range(len(items)))[["path", "text"]]
    frame["text"] = [f"picture {row}" for row in range(len(items))]
    frame["label"] = [str(row) for row in range(len(items))]
    frame.to_csv(tmp_path / "items.csv", index=False)
    words = ["--data", str(tmp_path / "items.csv"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", f"hf:{root / 'clip'}", *words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said) == set(RunFolder(tmp_path / "out").metrics["test"]["after"])
    assert all(name.startswith(("text_to_image/", "image_to_text/")) for name in said)


def test_wrong_words(root: Path, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = ["--weights", str(root / "weights.pt")]
    cases = {
        "is a model and not a run, so say on what": [NAME, *weights],
        "exists: choose another --out": [NAME, *weights, "--data", str(root / "photos"), "--out", str(evaluated)],
        "leave out --data, --split, --options and --out": [NAME, *weights, "--table", "--out", str(tmp_path / "x")],
        "no weights file at": [NAME, "--weights", str(root / "no.pt"), "--data", str(root / "photos")],
        "has nothing in the split 'train'": [NAME, *weights, "--data", str(evaluated), "--split", "train"],
    }
    for message, words in cases.items():
        assert main(["evaluate", *words]) == 2
        assert message in capsys.readouterr().err


def test_other_verbs_take_names(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, data = ["--weights", str(root / "weights.pt")], ["--data", str(root / "photos")]
    assert main(["embed", NAME, *weights, *data, "--out", str(tmp_path / "embedded.npz")]) == 0
    assert np.load(tmp_path / "embedded.npz")["embeddings"].shape[1] == 96
    assert main(["verify", NAME, *weights, *data, "--json"]) == 0
    assert "eer" in json.loads(capsys.readouterr().out.splitlines()[-1])
    one, other = (str(each) for each in sorted((root / "photos").rglob("*.png"))[:2])
    assert main(["explain", NAME, one, other, *weights, "--out", str(tmp_path / "why.png")]) == 0
    assert main(["export", NAME, *weights, "--to", "torch", "--out", str(tmp_path / "exported")]) == 0
    assert f"these are the weights of `{NAME}`" in (tmp_path / "exported" / "README.md").read_text()
    save(tmp_path / "model", ImageEncoder("test_resnet", weights="none", size=32))
    assert main(["evaluate", str(tmp_path / "model"), *weights, *data]) == 2
    assert "holds its own weights" in capsys.readouterr().err
