"""Distributions: similarities of positive and negative pairs, recall of classes, how often classes were seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from pullpush.evaluation.knn import cells
from pullpush.reports.style import Theme, label, legend_below, subplots
from pullpush.runs.reader import Absent

__all__ = ["draw_class_recall", "draw_seen", "draw_similarities", "sample_pairs", "separation", "similarities"]


@dataclass(frozen=True)
class Sample:
    """Row numbers of pairs, `[m, 2]` each.

    Attributes:
        drawn: whether positive and negative pairs are drawn at random; else all are there.
    """

    positive: NDArray[np.int64]
    negative: NDArray[np.int64]
    drawn: tuple[bool, bool]

    def __str__(self) -> str:
        kinds = (("positive", self.positive, self.drawn[0]), ("negative", self.negative, self.drawn[1]))
        counts = [f"{len(rows):,} {name} pairs{' drawn at random' * drawn}" for name, rows, drawn in kinds]
        return f"{'' if all(self.drawn) else 'the '}{' and '.join(counts)}"


def sample_pairs(labels: NDArray[np.int64], count: int = 100_000, seed: int = 0) -> Sample:
    """All positive and all negative pairs, each once; where there are more than `count`, so many of them, drawn
    uniformly with replacement.

    The same labels and seed give the same pairs, so before and after training are compared on equal ones.

    Raises:
        Absent: there is no positive or no negative pair.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    _, start, size = np.unique(labels[order], return_index=True, return_counts=True)
    weight = size * (size - 1)
    if weight.sum() == 0 or len(size) < 2:
        raise Absent("There are no positive or no negative pairs to compare.")
    negatives = (len(labels) ** 2 - int((size**2).sum())) // 2
    drawn = int(weight.sum()) > 2 * count, negatives > count
    # Each with those of its class behind it, and with those of the classes behind its own.
    place, end = np.arange(len(order)), np.repeat(start + size, size)
    positive = _drawn_positive(order, start, size, count, rng) if drawn[0] else _all(order, place + 1, end)
    negative = _drawn_negative(labels, count, rng) if drawn[1] else _all(order, end, np.full_like(end, len(order)))
    return Sample(positive, negative, drawn)


def _all(order: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row of `order` with those at the places first:last of it."""
    return np.asarray(order[np.stack(cells(first, last), 1)])


def _drawn_positive(
    order: NDArray[np.int64], start: NDArray[np.int64], size: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    weight = size * (size - 1)
    chosen = rng.choice(len(size), count, p=weight / weight.sum())
    first = rng.integers(size[chosen])
    second = (first + 1 + rng.integers(size[chosen] - 1)) % size[chosen]
    return np.asarray(order[np.stack([start[chosen] + first, start[chosen] + second], axis=1)])


def _drawn_negative(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    negative = np.empty((0, 2), np.int64)
    while len(negative) < count:  # drawn pairs of one class are thrown away, which leaves negatives uniform
        drawn = rng.integers(len(labels), size=(2 * count, 2))
        negative = np.concatenate([negative, drawn[labels[drawn[:, 0]] != labels[drawn[:, 1]]]])
    return negative[:count]


def similarities(embeddings: NDArray[np.float32], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosine similarity of normalised embeddings `[n, dim]` at pairs of rows `[m, 2]`."""
    one, other = embeddings[pairs[:, 0]], embeddings[pairs[:, 1]]
    return np.asarray(np.einsum("md,md->m", one, other, dtype=np.float64), np.float64)


def separation(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Probability that a positive pair is more similar than a negative one, ties half (area under the ROC)."""
    ordered = np.sort(negative)
    below, upto = (np.searchsorted(ordered, positive, side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * len(ordered)))


def draw_similarities(
    panels: list[tuple[str, NDArray[np.float64], NDArray[np.float64]]], theme: Theme, title: str
) -> Figure:
    """One panel a `(name, positive, negative)`, above one another over one axis of similarity."""
    figure, axes = subplots(len(panels), width=5.6, height=1.2 + 1.8 * len(panels), sharex=True, squeeze=False)
    low = min(min(p.min(), n.min()) for _, p, n in panels)
    high = max(max(p.max(), n.max()) for _, p, n in panels)
    edges = np.linspace(low - 1e-6, high + 1e-6, 81)
    for panel, (name, positive, negative) in zip(axes[:, 0], panels, strict=True):
        for values, color, text in ((negative, theme.series[1], "negative"), (positive, theme.series[0], "positive")):
            density, _ = np.histogram(values, edges, density=True)
            panel.stairs(density, edges, color=color, alpha=0.28, fill=True)
            panel.stairs(density, edges, color=color, linewidth=1.5, label=f"{text} pairs")
        panel.set_ylabel("density")
        panel.set_ylim(0, 1.05 * panel.dataLim.ymax)
        # Above the panel: nothing is written over the histograms.
        panel.set_title(name, loc="left", size=9.5, color=theme.muted, pad=5)
        above = f"{separation(positive, negative):.3f} of positives above negatives"
        panel.set_title(above, loc="right", size=8.5, color=theme.muted, pad=5, weight="normal")
        panel.grid(False)
    figure.set_layout_engine("constrained", h_pad=0.08)
    figure.suptitle(title, x=0.01, ha="left", size=11, weight="bold")
    axes[-1, 0].set_xlabel("cosine similarity")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside lower center", ncols=2)
    return figure


def draw_class_recall(panels: Sequence[tuple[str, ArrayLike]], theme: Theme) -> Figure:
    """How many classes have which recall@1; `panels` are (name, recall of each class), before first."""
    figure, axes = subplots()
    names, recalls = zip(*panels, strict=True)
    colors = [theme.before, theme.after][-len(panels) :]
    axes.hist(recalls, np.linspace(0, 1, 11), rwidth=0.86, color=colors, label=names)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)
    label(axes, "Recall@1 of each class", "recall@1 of the class", "classes")
    if len(panels) > 1:
        legend_below(figure)
    return figure


def draw_seen(counts: NDArray[np.float64], theme: Theme) -> Figure:
    """How often each class was seen in training, classes in falling order."""
    figure, axes = subplots()
    ordered = np.sort(counts)[::-1]
    axes.fill_between(np.arange(len(ordered)), ordered, step="mid", color=theme.after, alpha=0.28, linewidth=0)
    axes.step(np.arange(len(ordered)), ordered, where="mid", color=theme.after)
    axes.set_ylim(0, max(1.0, ordered.max() * 1.08))
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    label(axes, "How often each class was seen", "class, most seen first", "items drawn")
    return figure
