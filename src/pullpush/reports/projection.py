"""Maps of the embeddings of a split, and their drawing."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.evaluation.projection import project
from pullpush.reports.style import Theme, label, panels

__all__ = ["COLORED", "Map", "colored_classes", "draw_maps", "make_map", "subsample"]

COLORED = 8


@dataclass(frozen=True)
class Map:
    """`points` [m, 2] of the items at `rows` [m] of a split, by `method` ("UMAP" or "PCA")."""

    items: Items
    rows: NDArray[np.int64]
    points: NDArray[np.float32]
    method: str


def subsample(labels: NDArray[np.int64], limit: int = 3000, seed: int = 0) -> NDArray[np.int64]:
    """Rows of at most `limit` items, classes whole as far as they fit.

    Classes come in random order; each gives at most `max(20, limit / classes)` items. Returns sorted row numbers.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    classes, inverse = np.unique(labels, return_inverse=True)
    most = max(20, limit // len(classes))
    place = rng.permutation(len(classes))[inverse]  # of the item's class in the random order
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(place[shuffled], kind="stable")]
    first = np.searchsorted(place[by_class], place[by_class], side="left")
    kept = by_class[np.arange(len(labels)) - first < most]
    return np.sort(kept[:limit])


def make_map(items: Items, embeddings: NDArray[np.float32], limit: int = 3000, seed: int = 0) -> Map:
    """The map of a split from its embeddings `[n, dim]`."""
    rows = subsample(items.table["label"].to_numpy(), limit, seed)
    points, method = project(embeddings[rows], seed=seed)
    return Map(items, rows, points, method)


def colored_classes(labels: NDArray[np.int64], count: int = COLORED, seed: int = 0) -> NDArray[np.int64]:
    """The classes to colour: at random among those with the most points (the larger half)."""
    classes, sizes = np.unique(labels, return_counts=True)
    large = classes[sizes >= np.median(sizes)]
    return np.sort(np.random.default_rng(seed).permutation(large)[:count])


def draw_maps(maps: list[tuple[str, Map]], theme: Theme) -> Figure:
    """Maps side by side, on a phone above one another, each with its own coloured classes; `maps` are (title, map)."""
    figure, axes = panels(theme, len(maps), width=5.2, height=5.9)
    for panel, (title, one) in zip(axes, maps, strict=True):
        _draw_map(panel, title, one, theme)
    return figure


def _draw_map(axes: Axes, title: str, one: Map, theme: Theme) -> None:
    labels = one.items.table["label"].to_numpy()[one.rows]
    chosen = colored_classes(labels)
    grey = ~np.isin(labels, chosen)
    x, y = one.points.T
    axes.scatter(x[grey], y[grey], s=5, color=theme.muted, linewidths=0, alpha=0.45)
    for place, chosen_label in enumerate(chosen):
        look, own = theme.look(place), labels == chosen_label
        name = one.items.classes[int(chosen_label)].replace("_", " ")
        axes.scatter(
            x[own],
            y[own],
            s=42,
            edgecolors=theme.paper,
            linewidths=0.7,
            label=name if len(name) <= 30 else name[:29] + "…",
            zorder=3,
            color=look["color"],
            marker=look["marker"],
        )
    label(axes, title, f"{one.method} 1", f"{one.method} 2")
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=2, handletextpad=0.3, columnspacing=1.2)
