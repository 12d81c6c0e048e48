"""Grids of pictures: what queries find, which are worst, which classes are taken for one another."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.reports.neighbours import Ranking
from pullpush.reports.style import Theme

CELL = 0.84  # inches of a picture
STEP = 1.04  # from picture to picture
ROW = 1.27  # from row to row: picture, two lines of name, air
GAP = 0.22  # between the query and its answers


@dataclass(frozen=True)
class Tile:
    """One picture (None: it could not be opened), its class name, and whether it is right (None: neither)."""

    image: NDArray[np.uint8] | None
    name: str
    right: bool | None = None


@dataclass(frozen=True)
class Row:
    """A query, its answers in order, and a remark at the end of the row."""

    query: Tile
    answers: list[Tile]
    note: str = ""


@dataclass(frozen=True)
class Confusion:
    """Two classes that are taken for one another: pictures of both, how many queries of how many."""

    first: list[Tile]
    second: list[Tile]
    count: int
    queries: int


def thumbnail(items: Items, row: int, size: int = 128) -> NDArray[np.uint8] | None:
    """The picture of a row, padded with white to `[size, size, 3]`; None when it cannot be opened."""
    try:
        image = items.open(row)
    except (UserError, OSError):
        return None
    return np.asarray(ImageOps.pad(image, (size, size), Image.Resampling.BICUBIC, color="white"))


def class_name(items: Items, row: int) -> str:
    return items.classes[int(items.table["label"].iat[row])]


def _tile(items: Items, row: int, right: bool | None = None) -> Tile:
    return Tile(thumbnail(items, row), class_name(items, row), right)


def _row(items: Items, ranking: Ranking, query: int, note: str = "") -> Row:
    """The grid's row of the query number `query` of the ranking."""
    labels = items.table["label"].to_numpy()
    source = ranking.queries[query]
    answers = [_tile(items, int(r), bool(labels[r] == labels[source])) for r in ranking.nearest[query] if r >= 0]
    return Row(_tile(items, int(source)), answers, note)


def random_rows(items: Items, ranking: Ranking, count: int = 8, seed: int = 0) -> list[Row]:
    """Queries drawn at random, one a class."""
    order = np.random.default_rng(seed).permutation(len(ranking.queries))
    return [_row(items, ranking, q) for q in _one_a_class(items, ranking, order, count)]


def worst_rows(items: Items, ranking: Ranking, count: int = 6) -> list[Row]:
    """Queries whose first positive stands farthest behind, one a class."""
    order = np.argsort(-ranking.place, kind="stable")
    rows = [q for q in _one_a_class(items, ranking, order, count) if ranking.place[q] > 1]
    return [_row(items, ranking, q, f"first right\nat place {ranking.place[q]:,}") for q in rows]


def _one_a_class(items: Items, ranking: Ranking, order: NDArray[np.int64], count: int) -> list[int]:
    labels = items.table["label"].to_numpy()[ranking.queries]
    chosen: dict[int, int] = {}
    for query in order:
        chosen.setdefault(int(labels[query]), int(query))
        if len(chosen) == count:
            break
    return list(chosen.values())


def confusions(items: Items, ranking: Ranking, count: int = 8) -> list[Confusion]:
    """Pairs of classes by how many queries of one have an item of the other as nearest reference."""
    labels = items.table["label"].to_numpy()
    mine, other = labels[ranking.queries], labels[ranking.nearest[:, 0]]
    pairs: Counter[tuple[int, int]] = Counter(
        (int(min(a, b)), int(max(a, b))) for a, b in zip(mine, other, strict=True) if a != b
    )
    sizes = Counter(mine.tolist())
    # Among equal counts, the pair in which a larger share of the queries goes wrong comes first.
    ranked = sorted(pairs.items(), key=lambda p: (-p[1], sizes[p[0][0]] + sizes[p[0][1]], p[0]))
    return [
        Confusion(
            [_tile(items, int(r)) for r in np.flatnonzero(labels == a)[:3]],
            [_tile(items, int(r)) for r in np.flatnonzero(labels == b)[:3]],
            n,
            sizes[a] + sizes[b],
        )
        for (a, b), n in ranked[:count]
    ]


def draw_rows(rows: Sequence[Row], title: str, theme: Theme) -> Figure:
    """Query at the left, references in order of similarity; right ones have a tick, wrong ones a cross."""
    columns = max(len(row.answers) for row in rows)
    notes = any(row.note for row in rows)
    width = STEP * (columns + 1) + GAP + (0.85 if notes else 0)
    axes = _canvas(width, 0.62 + ROW * len(rows), theme, title)
    _caption(axes, CELL / 2, 0.5, "query", theme)
    for column in range(columns):
        _caption(axes, STEP * (column + 1) + GAP + CELL / 2, 0.5, f"nearest {column + 1}", theme)
    for index, row in enumerate(rows):
        top = 0.62 + ROW * index
        _draw_tile(axes, 0, top, row.query, theme)
        for column, tile in enumerate(row.answers):
            _draw_tile(axes, STEP * (column + 1) + GAP, top, tile, theme)
        if row.note:
            _caption(axes, STEP * (columns + 1) + GAP, top + CELL / 2, row.note, theme, align="left")
    return axes.figure


def draw_confusions(pairs: Sequence[Confusion], title: str, theme: Theme) -> Figure:
    """Both classes of a pair with up to three pictures each, and the count between them."""
    middle = 1.5
    width = 6 * STEP + middle
    axes = _canvas(width, 0.45 + ROW * len(pairs), theme, title)
    for index, pair in enumerate(pairs):
        top = 0.45 + ROW * index
        for column, tile in enumerate(pair.first):
            _draw_tile(axes, STEP * (3 - len(pair.first) + column), top, Tile(tile.image, "", None), theme)
        for column, tile in enumerate(pair.second):
            _draw_tile(axes, 3 * STEP + middle + STEP * column, top, Tile(tile.image, "", None), theme)
        left, right = 3 * STEP - (STEP - CELL), 3 * STEP + middle
        axes.text(left, top + CELL + 0.07, _cut(pair.first[0].name, 44), ha="right", va="top", size=8)
        axes.text(right, top + CELL + 0.07, _cut(pair.second[0].name, 44), ha="left", va="top", size=8)
        center = (left + right) / 2
        axes.text(center, top + CELL / 2 - 0.08, f"{pair.count}", ha="center", va="center", size=17, weight="bold")
        _caption(axes, center, top + CELL / 2 + 0.2, f"of {pair.queries} queries", theme)
        axes.annotate("", (right - 0.12, top + CELL / 2 + 0.36), (left + 0.12, top + CELL / 2 + 0.36),
                      arrowprops={"arrowstyle": "<->", "color": theme.muted, "linewidth": 1})  # fmt: skip
    return axes.figure


def _canvas(width: float, height: float, theme: Theme, title: str) -> Axes:
    """An axes whose unit is the inch, origin at the top left, with a margin around."""
    margin = 0.15
    figure = Figure(figsize=(width + 2 * margin, height + 2 * margin), layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-margin, width + margin)
    axes.set_ylim(height + margin, -margin)
    axes.axis("off")
    axes.text(0, 0, title, va="top", size=11, weight="bold")
    return axes


def _caption(axes: Axes, x: float, y: float, text: str, theme: Theme, align: str = "center") -> None:
    axes.text(x, y, text, ha=align, va="center", size=8, color=theme.muted)


def _draw_tile(axes: Axes, x: float, y: float, tile: Tile, theme: Theme) -> None:
    color = {True: theme.right, False: theme.wrong, None: theme.faint}[tile.right]
    frame = FancyBboxPatch(
        (x, y), CELL, CELL, boxstyle="round,pad=0,rounding_size=0.06", fill=False, edgecolor=color,
        linewidth=0.9 if tile.right is None else 2.2, zorder=3,
    )  # fmt: skip
    axes.add_patch(frame)
    if tile.image is None:
        axes.text(x + CELL / 2, y + CELL / 2, "not\nreadable", ha="center", va="center", size=7, color=theme.muted)
    else:
        picture = axes.imshow(tile.image, extent=(x, x + CELL, y + CELL, y), interpolation="hanning", aspect="auto")
        picture.set_clip_path(frame)
    if tile.right is not None:
        center = (x + CELL - 0.05, y + 0.05)
        axes.add_patch(Circle(center, 0.115, facecolor=color, edgecolor=theme.paper, linewidth=1.4, zorder=4))
        axes.text(*center, "✓" if tile.right else "✕", color="white", size=8, weight="bold", family="DejaVu Sans",
                  ha="center", va="center_baseline", zorder=5)  # fmt: skip
    for line, text in enumerate(_lines(tile.name)):
        axes.text(x + CELL / 2, y + CELL + 0.07 + 0.125 * line, text, ha="center", va="top", size=7, color=theme.ink)


def _lines(name: str, width: int = 17) -> list[str]:
    """At most two lines; what does not fit ends in an ellipsis."""
    return textwrap.wrap(name.replace("_", " "), width, max_lines=2, placeholder="…")


def _cut(name: str, width: int) -> str:
    name = name.replace("_", " ")
    return name if len(name) <= width else name[: width - 1] + "…"
