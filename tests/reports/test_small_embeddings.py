"""The figure of bytes against recall."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context

from pullpush.evaluation import compressed, evaluate_items
from pullpush.evaluation.retrieval import Sides
from pullpush.evaluation.retrieval import ways as measured
from pullpush.reports.compression import TYPES, draw_bytes, small_embeddings
from pullpush.reports.context import Context
from pullpush.reports.retrieval import ways
from pullpush.reports.style import DARK, LIGHT, settings
from pullpush.runs.reader import Absent, Missing, RunFolder


def wider(folder: Path) -> Path:
    """Embeddings of 64 dimensions, of which each quarter says the same."""
    for file in (folder / "embeddings").glob("*.npy"):
        x = np.tile(np.load(file), 4) / 2 + 0.1 * np.random.default_rng(0).normal(size=64)
        np.save(file, (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))
    return folder


def test_the_figure_shows_what_evaluate_finds(new_run: Callable[[Path], Path], tmp_path: Path) -> None:
    context = Context(RunFolder(wider(new_run(tmp_path / "runs" / "shapes"))))
    block = small_embeddings(context)
    x = context.run.embeddings("test", "after")
    recall = evaluate_items(x, context.test, nmi=False).metrics["recall@1"]
    assert f"256 bytes of float32 find {recall:.3f}, 64 of int8" in block.caption
    assert (context.run.path / "plots" / "small_embeddings.png").exists()
    rows = compressed(x, context.test, context.run.matrix("train-after"), dtypes=TYPES)
    for theme in (LIGHT, DARK):
        with rc_context(settings(theme)):
            axes = draw_bytes(rows, theme).axes[0]
        lines = {line.get_label(): line.get_xydata() for line in axes.lines}
        assert [*lines["int8"][:, 0]] == [32, 64]
        np.testing.assert_allclose(lines["float32"][-1], [256, recall])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("bytes of an item", "recall@1")


def test_the_table_says_what_each_way_finds_and_costs(new_run: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = wider(new_run(tmp_path / "runs" / "shapes"))
    context = Context(RunFolder(folder))
    with pytest.raises(Absent):
        ways(context)
    x, items = context.run.embeddings("test", "after"), context.test
    views = {"query": ["1", "1.375"], "gallery": ["1", "1 flip"]}
    np.save(folder / "embeddings" / "test-views.npy", x)
    np.save(folder / "embeddings" / "test-views-query.npy", x[:, ::-1])
    found = {"retrieval": [way.values() for way in measured(items, Sides(x, query_ms=4.2))], "views": views}
    found["test"] = {"after": {"recall@1": 0.5}, "views": {"recall@1": 0.6}}
    found["rerank"] = {"options": "expand=2,augment=2,alpha=3", "validation": None}
    (folder / "metrics.json").write_text(json.dumps(found))
    context = Context(RunFolder(folder))
    block = ways(context)
    assert block.head[:3] == ["model", "recall@1", "MAP@R"]
    assert block.rows[0][0] == "trained"
    assert "1.0x, 4\u00a0ms" in block.rows[0]
    assert any("a query is seen as 1, 1.375" in line for line in block.lines)
    assert "Re-ranked: expand=2,augment=2,alpha=3." in block.lines
    # the figure below it is of the same embeddings
    recall = evaluate_items(x, items, queries=x[:, ::-1], nmi=False).metrics["recall@1"]
    assert f"256 bytes of float32 find {recall:.3f}" in small_embeddings(context).caption


def test_small_embeddings_have_no_such_figure_and_a_missing_file_is_told(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Absent, match="small"):
        small_embeddings(Context(RunFolder(run_folder)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Missing):
        small_embeddings(Context(RunFolder(tmp_path / "empty")))
