"""The figure of bytes against recall."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context

from pullpush.evaluation import compressed, evaluate_items
from pullpush.reports.compression import TYPES, draw_bytes, small_embeddings
from pullpush.reports.context import Context
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


def test_small_embeddings_have_no_such_figure_and_a_missing_file_is_told(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Absent, match="small"):
        small_embeddings(Context(RunFolder(run_folder)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Missing):
        small_embeddings(Context(RunFolder(tmp_path / "empty")))
