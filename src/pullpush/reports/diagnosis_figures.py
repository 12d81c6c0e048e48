"""A small figure a finding: what was seen, over the steps of the run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pullpush.doctor import FINDINGS, Curves, Finding, History
from pullpush.reports import style
from pullpush.reports.curves import plot_curves
from pullpush.reports.page import Block, drawn
from pullpush.reports.style import Theme
from pullpush.runs.reader import Curve, Missing, RunFolder

__all__ = ["draw_finding"]


def draw_finding(finding: Finding, history: History, run: RunFolder) -> Block | None:
    """The figure that the finding declares, also in `plots/`; None where there is nothing to draw."""
    path, declared = run.path / "plots" / f"finding_{finding.finding}.png", FINDINGS[finding.finding].figure
    alt = f"What was seen: {finding.finding.replace('_', ' ')} over the steps of the run"
    if declared == "spread":
        deviation = _deviations(run)
        return None if deviation is None else drawn(lambda theme: _draw_spread(deviation, theme), path, "", alt)
    curves = _curves(declared, history) if declared else []
    if declared is None or not curves:
        return None
    last = history.looks[-1] if history.looks else {}
    levels = {name: last[key] for key, name in declared.levels.items() if key in last}
    return drawn(lambda theme: _draw_curves(declared, curves, levels, theme), path, "", alt)


def _curves(declared: Curves, history: History) -> list[Curve]:
    points = {name: np.array(history.series(key), dtype=np.float64) for key, name in declared.series.items()}
    return [Curve(name, each[:, 0], each[:, 1]) for name, each in points.items() if len(each)]


def _draw_curves(declared: Curves, curves: Sequence[Curve], levels: dict[str, float], theme: Theme) -> Figure:
    figure, axes = style.subplots(width=5.2, height=2.7)
    plot_curves(axes, curves, theme)
    low, high = axes.get_ylim()
    for place, (name, level) in enumerate(levels.items(), len(curves)):
        axes.axhline(level, color=theme.series[place], linestyle="--", linewidth=1.2, label=f"{name} {level:.3g}")
        low, high = min(low, level), max(high, level)
    margin = 0.06 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    style.label(axes, declared.title, "step", declared.y)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _deviations(run: RunFolder) -> NDArray[np.float32] | None:
    try:
        return np.sort(run.embeddings("test", "after").std(0))[::-1]
    except Missing:
        return None


def _draw_spread(deviation: NDArray[np.float32], theme: Theme) -> Figure:
    figure, axes = style.subplots(width=5.2, height=2.7)
    axes.bar(np.arange(len(deviation)), deviation, width=1.0, color=theme.after)
    axes.grid(axis="x", visible=False)
    style.label(axes, "Spread of each dimension", "dimension, widest first", "standard deviation")
    return figure
