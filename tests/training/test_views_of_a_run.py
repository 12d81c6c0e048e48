"""The test views of a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pullpush import load, train
from pullpush.data.items import Items
from pullpush.encoders import Rerank, View, Views
from pullpush.errors import UserError
from pullpush.evaluation import evaluate_items
from pullpush.runs.reader import RunFolder
from pullpush.training import views as module

NAMED = {"query": ["1.25"], "gallery": ["1", "1.25", "1 flip"]}


@pytest.fixture(scope="module")
def run(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        **small | {"views": NAMED, "rerank": "expand=2,augment=1", "table": True},
        out=str(tmp_path_factory.mktemp("views") / "run"),
        quiet=True,
    )


def test_views_that_are_named_are_those_of_the_model(run: Path) -> None:
    metrics, model = json.loads((run / "metrics.json").read_text()), load(run)
    assert model.views == Views((View(1.25),), (View(), View(1.25), View(flip=True)))
    assert metrics["views"] == {**NAMED, "query_cost": 1.5625, "gallery_cost": 3.5625, "gain": None}
    items = Items.load(run / "items.parquet").split("test")
    queries, gallery = model.embed_both([items.open(row) for row in range(len(items))])
    np.testing.assert_allclose(np.load(run / "embeddings" / "test-views.npy"), gallery, atol=2e-5)
    np.testing.assert_allclose(np.load(run / "embeddings" / "test-views-query.npy"), queries, atol=2e-5)
    again = evaluate_items(gallery, items, queries=queries, nmi=False).metrics
    found = metrics["test"]["views"]
    assert found == pytest.approx({name: again[name] for name in found})
    assert RunFolder(run).evaluation("test", "views").metrics["map@r"] == pytest.approx(found["map@r"])


def test_a_re_ranking_that_is_named_is_that_of_the_model(run: Path) -> None:
    """Tested plain and in the views, and in the table of what is found and what it costs."""
    metrics, model = json.loads((run / "metrics.json").read_text()), load(run)
    assert model.rerank == Rerank(expand=2, augment=1)
    assert metrics["rerank"] == {"options": "expand=2,augment=1,alpha=3", "validation": None}
    reader = RunFolder(run)
    items, plain = reader.split("test"), reader.embeddings("test", "after")
    again = evaluate_items(plain, items, rerank=model.rerank, nmi=False).metrics
    assert metrics["test"]["reranked"] == pytest.approx(again)
    seen = {"embeddings": reader.matrix("test-views"), "queries": reader.matrix("test-views-query")}
    again = evaluate_items(items=items, **seen, rerank=model.rerank, nmi=False).metrics
    assert metrics["test"]["views_reranked"] == pytest.approx(again)
    rows = {row["name"]: row for row in metrics["retrieval"]}
    names = ["untrained", "trained", "with views", "re-ranked", "views, re-ranked", "int8", "binary"]
    assert list(rows) == [*names, "binary, rescored"]
    assert rows["trained"]["map@r"] == pytest.approx(metrics["test"]["after"]["map@r"])
    assert (rows["with views"]["query_cost"], rows["with views"]["gallery_cost"]) == (1.5625, 3.5625)
    assert rows["with views"]["query_ms"] > 0
    assert rows["re-ranked"]["ranking_ms"] > 0
    assert (rows["trained"]["bytes"], rows["binary"]["bytes"]) == (64, 2)


def test_none_are_chosen_without_a_gain_or_for_too_much(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "ERRORS", 1e9)
    without = train(**small | {"views": "auto"}, out=str(tmp_path / "without"), quiet=True)
    metrics = json.loads((without / "metrics.json").read_text())
    assert metrics["views"]["query"] == metrics["views"]["gallery"] == ["1"]
    assert metrics["views"]["gain"]["shown"] is False
    assert "views" not in metrics["test"]
    assert load(without).views.plain

    monkeypatch.setattr(module, "FREE", 0)
    train(**small | {"steps": 1, "views": "auto"}, out=str(tmp_path / "dear"))
    assert "test views are left out: choosing and testing them would take" in capsys.readouterr().out
    assert json.loads((tmp_path / "dear" / "metrics.json").read_text())["views"]["gain"] is None


def test_those_that_show_a_gain_are_chosen(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ERRORS", -1e9)  # whatever is best
    own = small | {"views": {"query_cost": 2.0, "gallery_cost": 4.0}}
    metrics = json.loads((train(**own, out=str(tmp_path / "run"), quiet=True) / "metrics.json").read_text())
    assert metrics["views"]["query_cost"] <= 2.0
    assert metrics["views"]["gallery_cost"] <= 4.0
    gain = metrics["views"]["gain"]
    assert gain["metric"] == "map@r"
    assert gain["start"] == pytest.approx(
        metrics["validation"]["map@r"], abs=0.2
    )  # the plain view at the larger decoding
    off = train(**small | {"steps": 1}, out=str(tmp_path / "off"), quiet=True)
    assert json.loads((off / "metrics.json").read_text())["views"]["gain"] is None


@pytest.mark.parametrize("views", [{"query": ["big"]}, {"gallery": ["1", "1"]}, {"query": ["1.25"], "gallery": ["99"]}])
def test_what_is_no_view_ends_before_the_first_step(small: dict[str, Any], tmp_path: Path, views: Any) -> None:
    with pytest.raises(UserError, match="view"):
        train(**small | {"views": views}, out=str(tmp_path / "run"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_one_size_says_so(small: dict[str, Any], tmp_path: Path) -> None:
    own = small | {"encoder": {**small["encoder"], "name": "vit_tiny_patch16_224", "frozen_stages": 0}}
    with pytest.raises(UserError, match=r"can't take the view '1.25'"):
        train(**own | {"views": {"query": ["1.25"]}}, out=str(tmp_path / "run"), quiet=True)
    mirrored = train(**own | {"steps": 1, "views": {"query": ["1 flip"]}}, out=str(tmp_path / "flip"), quiet=True)
    assert load(mirrored).views.query == (View(flip=True),)


def test_they_may_cost_as_much_as_training_did(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the batch follows the data."""
    monkeypatch.setattr(module, "FREE", 0)
    own = small | {"views": "auto", "batch": {"classes": 0, "samples": 0}, "steps": 20}
    metrics = json.loads((train(**own, out=str(tmp_path / "run"), quiet=True) / "metrics.json").read_text())
    assert metrics["views"]["gain"] is not None
