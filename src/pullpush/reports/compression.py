"""Bytes of an embedding against what is found with it."""

from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pullpush.encoders.views import Views
from pullpush.evaluation import Compressed, compressed
from pullpush.evaluation.compression import CANDIDATES, RESCORED, Dtype
from pullpush.evaluation.retrieval import Sides
from pullpush.reports.context import Context
from pullpush.reports.page import Block
from pullpush.reports.style import Theme, label, legend_below, subplots
from pullpush.runs.reader import Absent, or_else
from pullpush.runs.retrieval import sides_in_views

__all__ = ["draw_bytes", "small_embeddings"]

TYPES: tuple[Dtype, ...] = ("float32", "int8", "binary")
MOST = 10_000
"""Items of the test up to which this takes seconds; of more, `pullpush evaluate --compression` makes the table."""


def small_embeddings(context: Context) -> Block:
    """What is found with fewer dimensions, and fewer bytes for each."""
    if not context.run.trained:
        raise Absent("there are no training embeddings, which fewer dimensions are fitted on")
    test, trained = context.test, context.run.matrix("train-after")
    if len(test) > MOST or trained.shape[1] <= 32 or not context.labelled:
        raise Absent("too many items, embeddings that are small, or no classes")
    seen = or_else(lambda: sides_in_views(context.run, Views()), None)
    seen = seen or Sides(context.run.embeddings("test", "after"))
    rows = compressed(seen.gallery, test, trained, queries=seen.queries, dtypes=TYPES)
    whole, viewed = rows[0], ", with test views," if seen.queries is not None else ""
    int8, bits = (next(row for row in rows if row.dtype == dtype) for dtype in ("int8", RESCORED))
    return context.figure(
        "small_embeddings",
        partial(draw_bytes, rows),
        alt="Recall@1 over the bytes of an embedding, a line for each type that it is stored as",
        caption=f"Each point is the whole test again{viewed} with embeddings of 32, 64 or all {whole.dim} dimensions. "
        "Fewer are the first principal components of the training embeddings, or the first ones as they are (prefix). "
        f"{whole.bytes} bytes of float32 find {whole.recall_at_1:.3f}, {int8.bytes} of int8 {int8.recall_at_1:.3f}; "
        f"{bits.scanned} bytes of bits find {CANDIDATES} candidates, which {int8.bytes} more put in order: "
        f"{bits.recall_at_1:.3f}.",
    )


def draw_bytes(rows: Sequence[Compressed], theme: Theme) -> Figure:
    """recall@1 over bytes, both kinds of fewer dimensions for each type."""
    figure, axes = subplots(width=5.6, height=3.9)
    for place, dtype in enumerate(dict.fromkeys(row.dtype for row in rows)):
        look, own = theme.look(place), [row for row in rows if row.dtype == dtype]
        for reduction, line in (("prefix", ":"), ("pca", "-")):
            points = sorted((r.bytes, r.recall_at_1) for r in own if r.reduction in ("none", reduction))
            face = theme.paper if reduction == "prefix" else look["color"]
            name = dtype if reduction == "pca" else "_"
            axes.plot(*zip(*points, strict=True), line, **look, markerfacecolor=face, markersize=5, label=name)
    axes.set_xscale("log", base=2)
    ticks = sorted({row.bytes for row in rows if row.dtype != RESCORED})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    label(axes, "Bytes against recall", "bytes of an item", "recall@1")
    for line, face, name in (("-", theme.ink, "principal components"), (":", theme.paper, "prefix")):
        axes.plot([], [], line, color=theme.ink, marker="o", markersize=5, markerfacecolor=face, label=name)
    legend_below(figure)
    return figure
