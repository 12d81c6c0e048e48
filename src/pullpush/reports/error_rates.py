"""Figures of same or different: DET, ROC, cosines of both kinds of pairs, and whether probabilities hold."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pullpush.evaluation import Verification
from pullpush.evaluation.calibration import Reliability
from pullpush.reports.style import Theme, label, legend_below, subplots

__all__ = ["LEAST", "WHEN", "draw_errors", "draw_pairs", "draw_reliability"]

WHEN = {
    "before": "before training",
    "after": "after training",
    "views": "after, with test views",
    "as it is": "not trained here",
}
LEAST = 1e-5
"""Rates that are drawn."""


def draw_errors(found: Mapping[str, Verification], theme: Theme) -> Figure:
    """False rejects over false accepts, these on a logarithmic scale; `found` by a key of `WHEN`."""
    figure, axes = subplots(width=5.6, height=3.9)
    colors = {"before": theme.before, "after": theme.after, "views": theme.ink, "as it is": theme.after}
    for when, each in found.items():
        _det(axes, each, "--" if when == "views" else "-", colors[when], WHEN[when])
    _of_rates(axes, "Same or different", "false reject rate")
    legend_below(figure)
    return figure


def draw_reliability(found: Reliability, theme: Theme) -> Figure:
    """The share of same pairs over the probability, above how many pairs there are."""
    figure, (axes, below) = subplots(2, 1, width=5.6, height=4.8, sharex=True, height_ratios=(3, 1))
    _reliable(axes, below, found, theme)
    legend_below(figure)
    return figure


def draw_pairs(found: Verification, reliable: Reliability | None, theme: Theme) -> Figure:
    """ROC, DET, cosines, and of a model with a decision whether its probabilities hold; on a phone one below the
    other."""
    count = 4 if reliable else 3
    columns = 1 if theme.narrow else 2
    rows = -(-count // columns)
    figure = Figure(figsize=(4.6 * columns, 3.6 * rows))
    parts = figure.subfigures(rows, columns, squeeze=False, hspace=0.04, wspace=0.04).ravel()
    roc, det, cosines = (part.subplots() for part in parts[:3])
    far, tar = (found.curve[name].to_numpy() for name in ("far", "tar"))
    roc.plot(far[far > 0], tar[far > 0], color=theme.after)
    _of_rates(roc, "ROC", "true accept rate")
    _det(det, found, "-", theme.after, "")
    _of_rates(det, f"DET (EER {found.metrics['eer']:.3f})", "false reject rate")
    _cosines(cosines, found, theme)
    if reliable:
        axes, below = parts[3].subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _reliable(axes, below, reliable, theme)
    return figure


def _det(axes: Axes, found: Verification, line: str, color: str, name: str) -> None:
    far, frr = found.curve["far"].to_numpy(), 1 - found.curve["tar"].to_numpy()
    shown = (far > 0) & (frr > 0)
    axes.plot(far[shown], frr[shown], line, color=color, label=name)
    eer = found.metrics["eer"]
    axes.plot([eer], [eer], "o", color=color, markersize=5)


def _of_rates(axes: Axes, title: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(LEAST, 1)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    label(axes, title, "false accept rate", y)


def _cosines(axes: Axes, found: Verification, theme: Theme) -> None:
    bins = found.histogram
    edges = np.append(bins["low"].to_numpy(), bins["high"].to_numpy()[-1])
    for kind, color in (("different", theme.series[1]), ("same", theme.series[0])):
        density = bins[kind].to_numpy() / np.diff(edges)
        axes.stairs(density, edges, color=color, alpha=0.28, fill=True)
        axes.stairs(density, edges, color=color, linewidth=1.5, label=kind)
    some = np.flatnonzero(bins["same"].to_numpy() + bins["different"].to_numpy() > 1e-5)
    axes.set_xlim(edges[some[0]], edges[some[-1] + 1])
    axes.set_ylim(0, 1.2 * axes.dataLim.ymax)  # room for the legend
    axes.axvline(found.thresholds["eer"], ymax=0.85, color=theme.muted, linestyle=":", linewidth=1.2)
    label(axes, "Cosines of pairs (dotted: EER)", "cosine", "density")
    axes.legend(loc="upper center", ncols=2)
    axes.grid(False)


def _reliable(axes: Axes, below: Axes, found: Reliability, theme: Theme) -> None:
    axes.plot([0, 1], [0, 1], ":", color=theme.muted, linewidth=1.2, label="as predicted")
    some = found.weight > 0
    axes.plot(
        found.predicted[some],
        found.observed[some],
        "o-",
        color=theme.after,
        markersize=5,
        label="observed",
        clip_on=False,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    bins = len(found.weight)
    below.bar((np.arange(bins) + 0.5) / bins, found.pairs, 0.86 / bins, color=theme.after, alpha=0.5)
    below.set_yscale("log")
    below.set_ylim(bottom=0.5)
    below.grid(axis="x", visible=False)
    label(axes, f"Do the probabilities hold? (ECE {found.error:.3f})", "", "same pairs")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.set_xlabel("predicted probability")
    below.set_ylabel("pairs")
