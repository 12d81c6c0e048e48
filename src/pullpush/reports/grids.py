"""Grids of images: what queries find, which are worst, which classes are taken for one another."""

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation import Evaluation
from pullpush.reports.style import Theme

__all__ = [
    "CELL",
    "GAP",
    "PHONE",
    "ROW",
    "STEP",
    "Confusion",
    "Row",
    "Tile",
    "at_place",
    "canvas",
    "confusions",
    "draw_confusions",
    "draw_mark",
    "draw_rows",
    "draw_tile",
    "heading",
    "one_a_class",
    "random_rows",
    "rows_of",
    "thumbnail",
    "tile",
    "title",
    "worst_queries",
    "worst_rows",
]

CELL = 0.86  # inches of an image with its frame
STEP = 1.0  # from image to image
ROW = 1.33  # from row to row: image, two lines of name, air
INSET = 0.045  # of the image in its frame
GAP = 0.3  # between groups of images
NEAREST = 5  # references that are shown of a query
PHONE = 3  # references of a query that fit on a phone


@dataclass(frozen=True)
class Tile:
    """One image (None: it could not be opened), its class name, and whether it is right (None: neither)."""

    image: NDArray[np.uint8] | None
    name: str
    right: bool | None = None


@dataclass(frozen=True)
class Row:
    """A query, groups of references in order of similarity, and a remark at the end of the row."""

    query: Tile
    groups: list[list[Tile]]
    note: str = ""


@dataclass(frozen=True)
class Confusion:
    """Two classes that are taken for one another: images of both, how many queries of how many."""

    first: list[Tile]
    second: list[Tile]
    count: int
    queries: int


def thumbnail(items: Items, row: int, size: int = 128) -> NDArray[np.uint8] | None:
    """The whole image of a row, its longer side `size` pixels, `[height, width, 3]`; None if it cannot be opened."""
    try:
        image = items.open(row)
    except (UserError, OSError):
        return None
    return np.asarray(ImageOps.contain(image, (size, size), Image.Resampling.BICUBIC))


def title(items: Items, row: int) -> str:
    """The name of the class of a row; where items have no classes, its text."""
    text = items.table["text"].iat[row]
    if len(text) and items.table["label"].is_unique:
        return str(text[0])
    return items.classes[int(items.table["label"].iat[row])]


def tile(items: Items, row: int, right: bool | None = None) -> Tile:
    """A row's image under its title."""
    return Tile(thumbnail(items, row), title(items, row), right)


def _nearest(items: Items, evaluation: Evaluation, query: int) -> list[Tile]:
    """The nearest references of a query, which is given by its place among the queries."""
    labels = items.table["label"].to_numpy()
    own = evaluation.per_query["label"].iat[query]
    nearest = evaluation.neighbours.indices[query, :NEAREST]
    return [tile(items, int(row), bool(labels[row] == own)) for row in nearest if row >= 0]


def one_a_class(labels: NDArray[np.int64], order: NDArray[np.int64], count: int) -> list[int]:
    """The first `count` rows in this order, one a class; `labels` are those of all rows."""
    _, first = np.unique(labels[order], return_index=True)
    return [int(row) for row in order[np.sort(first)[:count]]]


def random_rows(items: Items, evaluations: Sequence[Evaluation], count: int = 8, seed: int = 0) -> list[Row]:
    """Queries drawn at random, one a class, with their nearest references in each of the evaluations."""
    queries = evaluations[0].per_query
    order = np.random.default_rng(seed).permutation(np.flatnonzero(evaluations[0].counted))
    return rows_of(items, evaluations, one_a_class(queries["label"].to_numpy(), order, count))


def rows_of(items: Items, evaluations: Sequence[Evaluation], queries: Sequence[int]) -> list[Row]:
    """Queries, given by their places among the queries, with their nearest references in each of the evaluations."""
    rows = evaluations[0].per_query.index
    return [
        Row(tile(items, int(rows[query])), [_nearest(items, each, query) for each in evaluations]) for query in queries
    ]


def worst_rows(items: Items, evaluation: Evaluation, count: int = 6) -> list[Row]:
    """Queries whose first positive stands farthest behind, one a class, with that positive at the end."""
    queries = evaluation.per_query
    ranks, positives = (queries[name].to_numpy() for name in ("rank", "nearest_positive"))
    return [
        Row(
            tile(items, int(queries.index[query])),
            [_nearest(items, evaluation, query), [tile(items, int(positives[query]), True)]],
            at_place(ranks[query]),
        )
        for query in worst_queries(evaluation, count)
    ]


def at_place(rank: float) -> str:
    """The remark of a reference that stands there."""
    return f"at place\n{rank:,.1f}".removesuffix(".0")


def worst_queries(evaluation: Evaluation, count: int = 6) -> list[int]:
    """The places of these queries among all."""
    counted = np.flatnonzero(evaluation.counted)
    labels, ranks = (evaluation.per_query[name].to_numpy() for name in ("label", "rank"))
    order = counted[np.argsort(-ranks[counted], kind="stable")]
    return [query for query in one_a_class(labels, order, count) if ranks[query] > 1]


def confusions(items: Items, evaluation: Evaluation, count: int = 8) -> list[Confusion]:
    """Pairs of classes by how many queries of one have an item of the other as nearest reference."""
    labels = items.table["label"].to_numpy()
    mine = evaluation.per_query["label"].to_numpy()[evaluation.counted]
    other = labels[evaluation.neighbours.indices[evaluation.counted, 0]]
    taken = np.sort(np.stack([mine, other], 1)[mine != other], axis=1)
    sizes, pairs = Counter(mine.tolist()), Counter(map(tuple, taken.tolist()))
    # Among equal counts, the pair in which a larger share of the queries goes wrong comes first.
    ranked = sorted(pairs.items(), key=lambda p: (-p[1], sizes[p[0][0]] + sizes[p[0][1]], p[0]))
    confusions = []
    for pair, number in ranked[:count]:
        first, second = ([tile(items, int(row)) for row in np.flatnonzero(labels == label)[:2]] for label in pair)
        confusions.append(Confusion(first, second, number, sum(sizes[label] for label in pair)))
    return confusions


def draw_rows(rows: Sequence[Row], headings: Sequence[str], title: str, theme: Theme) -> Figure:
    """Query at the left, then the groups of references under their headings; a tick is right, a cross wrong.

    On a phone the groups of a query stand below one another, three references each.
    """
    if theme.narrow:
        return _draw_narrow_rows(rows, headings, title, theme)
    sizes = [max(len(row.groups[g]) for row in rows) for g in range(len(headings))]
    starts = [STEP + GAP + sum(n * STEP + GAP for n in sizes[:g]) for g in range(len(sizes))]
    end = starts[-1] + sizes[-1] * STEP
    top = 0.85
    beyond = 0.5 if any(row.note for row in rows) else CELL - STEP
    figure, axes = canvas(end + beyond, top + ROW * len(rows), title)
    heading(axes, 0, 1, "query", theme)
    for words, start, size in zip(headings, starts, sizes, strict=True):
        heading(axes, start, size, words, theme)
    for index, row in enumerate(rows):
        y = top + ROW * index
        draw_tile(axes, 0, y, row.query, theme)
        for start, group in zip(starts, row.groups, strict=True):
            for column, tile in enumerate(group):
                draw_tile(axes, start + STEP * column, y, tile, theme)
        axes.text(end, y + CELL / 2, row.note, va="center", size=8, color=theme.muted)
    return figure


def _draw_narrow_rows(rows: Sequence[Row], headings: Sequence[str], title: str, theme: Theme) -> Figure:
    top, start, step = 0.55, STEP + GAP, ROW + 0.26
    height = (step * len(headings) + 0.1) * len(rows)
    figure, axes = canvas(start + PHONE * STEP, top + height, title)
    for index, row in enumerate(rows):
        y = top + (step * len(headings) + 0.1) * index + 0.2
        draw_tile(axes, 0, y, row.query, theme)
        axes.text(CELL / 2, y - 0.12, "query", ha="center", size=7.5, color=theme.muted)
        for line, (words, group) in enumerate(zip(headings, row.groups, strict=True)):
            below = y + step * line
            axes.text(start, below - 0.12, words, size=7.5, color=theme.muted)
            for column, tile in enumerate(group[:PHONE]):
                draw_tile(axes, start + STEP * column, below, tile, theme)
        last = start + STEP * min(PHONE, len(row.groups[-1]))
        axes.text(last, y + step * (len(headings) - 1) + CELL / 2, row.note, va="center", size=8, color=theme.muted)
    return figure


def draw_confusions(pairs: Sequence[Confusion], title: str, theme: Theme) -> Figure:
    """Two columns of pairs (on a phone one): images of both classes, between them the count."""
    middle, each = 1.25, 1 if theme.narrow else 2
    half, inset = 2 * each * STEP + middle, GAP if theme.narrow else 0.0  # a name may be wider than one image
    columns = 1 if theme.narrow else min(2, len(pairs))
    width, height = inset + columns * half + (columns - 1) * GAP, 0.5 + ROW * math.ceil(len(pairs) / columns)
    figure, axes = canvas(width, height, title)
    for index, pair in enumerate(pairs):
        x, y = inset + (index % columns) * (half + GAP), 0.5 + ROW * (index // columns)
        left, right = x + each * STEP - (STEP - CELL), x + each * STEP + middle - (STEP - CELL)
        for column, tile in enumerate(reversed(pair.first[:each])):
            draw_tile(axes, left - CELL - STEP * column, y, Tile(tile.image, ""), theme)
        for column, tile in enumerate(pair.second[:each]):
            draw_tile(axes, right + STEP * column, y, Tile(tile.image, ""), theme)
        for side, tile, align in ((left, pair.first[0], "right"), (right, pair.second[0], "left")):
            for line, text in enumerate(_lines(tile.name, 18 * each)):
                axes.text(side, y + CELL + 0.07 + 0.125 * line, text, ha=align, va="top", size=7.5)
        center = (left + right) / 2
        axes.text(center, y + 0.3, f"{pair.count:,}", ha="center", va="center", size=17, weight="bold")
        axes.text(center, y + 0.54, f"of {pair.queries:,} queries", ha="center", va="center", size=8, color=theme.muted)
        arrow = {"arrowstyle": "<->", "color": theme.muted, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (right - 0.16, y + 0.72), (left + 0.16, y + 0.72), arrowprops=arrow)
    return figure


def heading(axes: Axes, x: float, size: float, text: str, theme: Theme) -> None:
    """A heading over `size` tiles, with a thin rule under it."""
    end = x + (size - 1) * STEP + CELL
    axes.text(x, 0.56, text, va="center", size=8.5, color=theme.muted)
    axes.plot([x, end], [0.71, 0.71], color=theme.faint, linewidth=0.8)


def canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """An axes whose unit is the inch, origin at the top left, with a margin around."""
    margin = 0.1
    figure = Figure(figsize=(width + margin + 0.02, height + 2 * margin))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.02, width + margin)  # the left edge stands under the page's text
    axes.set_ylim(height + margin, -margin)
    axes.axis("off")
    axes.text(0, 0, title, va="top", size=11, weight="bold")
    return figure, axes


def draw_tile(axes: Axes, x: float, y: float, tile: Tile, theme: Theme) -> None:
    """One image, whole, on the floor of its cell, in a frame of its own shape: right, wrong, or neither."""
    color = {True: theme.right, False: theme.wrong, None: theme.faint}[tile.right]
    edge = 0.9 if tile.right is None else 2.2
    high, wide = (1, 1) if tile.image is None else tile.image.shape[:2]
    width, height = CELL * wide / max(wide, high), CELL * high / max(wide, high)
    left, top = x + (CELL - width) / 2, y + CELL - height
    axes.add_artist(_rounded(left, top, width, height, fill=False, edgecolor=color, linewidth=edge, zorder=3))
    if tile.image is None:
        axes.text(x + CELL / 2, y + CELL / 2, "not\nreadable", ha="center", va="center", size=7, color=theme.muted)
    else:
        axes.add_artist(_rounded(left, top, width, height, facecolor="white", edgecolor="none"))
        inner = (left + INSET, left + width - INSET, top + height - INSET, top + INSET)
        axes.imshow(tile.image, extent=inner, interpolation="hanning", aspect="auto", zorder=2)
    if tile.right is not None:
        center = (left + width - 0.05, top + 0.05)
        axes.add_artist(Circle(center, 0.115, facecolor=color, edgecolor=theme.paper, linewidth=1.4, zorder=4))
        draw_mark(axes, *center, tile.right, color="white", ha="center", va="center_baseline", zorder=5)
    for line, text in enumerate(_lines(tile.name)):
        axes.text(x + CELL / 2, y + CELL + 0.07 + 0.125 * line, text, ha="center", va="top", size=7, color=theme.ink)


def draw_mark(axes: Axes, x: float, y: float, right: bool, **look: Any) -> None:
    """A tick or a cross."""
    axes.text(x, y, "✓" if right else "✕", size=8, weight="bold", family="DejaVu Sans", **look)


def _lines(name: str, width: int = 15) -> list[str]:
    """At most two lines; what does not fit ends in an ellipsis."""
    return textwrap.wrap(name.replace("_", " "), width, max_lines=2, placeholder=" …")


def _rounded(x: float, y: float, width: float, height: float, **style: Any) -> FancyBboxPatch:
    rounding = min(0.07, width / 3, height / 3)
    return FancyBboxPatch((x, y), width, height, boxstyle=f"round,pad=0,rounding_size={rounding}", **style)
