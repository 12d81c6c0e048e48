"""A small figure a finding: what was seen, over the steps of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from pullpush.doctor import Finding, History
from pullpush.reports import style
from pullpush.reports.curves import Curve, plot_curves
from pullpush.reports.run import Missing, Run
from pullpush.reports.style import Picture, Theme

__all__ = ["draw_finding"]


@dataclass(frozen=True)
class Drawing:
    """Curves of what the monitor measured, and levels that they are compared with.

    `curves` and `levels` map names of measures to what they are called in the figure; "train/loss" is the loss.
    """

    title: str
    y: str
    curves: dict[str, str]
    levels: dict[str, str]


COSINES = {f"{side}/mean_cosine": side for side in ("embeddings", "image", "text")}
LOSS = {"train/loss": "training loss"}
BOUNDS = {"chance": "all similarities equal", "floor": "floor"}
DRAWINGS = {
    "collapse": Drawing("Mean cosine of unrelated items", "cosine", COSINES, {}),
    "near_collapse": Drawing("Mean cosine of unrelated items", "cosine", COSINES, {}),
    "modality_gap": Drawing(
        "Gap between the modalities", "distance", {"modality_gap": "of the centres", "positive": "matching cosine"}, {}
    ),
    "loss_at_floor": Drawing("Loss and its floor", "loss", LOSS, BOUNDS),
    "temperature_too_high": Drawing("Loss and its floor", "loss", LOSS, BOUNDS),
    "loss_at_chance": Drawing("Loss and chance", "loss", LOSS, {"chance": "all similarities equal"}),
    "temperature_too_low": Drawing(
        "Negatives that share an anchor's gradient", "negatives", {"effective_negatives": "effective number"}, {}
    ),
    "triplet_at_margin": Drawing("Loss and margin", "loss", LOSS, {"margin": "margin"}),
    "no_active_triplet": Drawing("Active triplets", "share", {"active_triplets": "violate the margin"}, {}),
    "miner_leaves_nothing": Drawing("Anchors that keep a pair", "share", {"mined": "after the miner"}, {}),
    "no_positives": Drawing("Anchors with a positive", "share", {"with_positive": "in the batch"}, {}),
    "learning_rate_too_high": Drawing("Update as a share of the weights", "share", {"update_ratio": "of one step"}, {}),
    "stale_memory": Drawing("Drift in the memory", "squared change", {"memory_drift": "of items seen again"}, {}),
    "over_fitting": Drawing(
        "Retrieval", "recall@1", {"nearest": "training batches", "validation": "validation classes"}, {}
    ),
    "not_finite": Drawing("Loss up to the failure", "loss", LOSS, {}),
}


def draw_finding(finding: Finding, history: History, run: Run) -> Picture | None:
    """The figure, also in `plots/`; None where there is nothing to draw."""
    path = run.path / "plots" / f"finding_{finding.finding}.png"
    if finding.finding in ("dead_dimensions", "dominating_dimension"):
        deviation = _deviations(run)
        return None if deviation is None else style.save(lambda theme: _draw_dimensions(deviation, theme), path)
    drawing = DRAWINGS.get(finding.finding)
    curves = [] if drawing is None else _curves(drawing, history)
    if drawing is None or not curves:
        return None
    levels = {name: history.looks[-1][key] for key, name in drawing.levels.items() if key in history.looks[-1]}
    return style.save(lambda theme: _draw(drawing, curves, levels, theme), path)


def _curves(drawing: Drawing, history: History) -> list[Curve]:
    found = []
    for key, name in drawing.curves.items():
        if key == "train/loss":
            points = list(enumerate(history.losses, 1))
        elif key == "validation":
            points = [(int(step), recall) for step, recall in history.validations]
        else:
            points = [(int(look["step"]), look[key]) for look in history.looks if key in look]
        if points:
            steps, values = np.array(points, dtype=np.float64).T
            found.append(Curve(name, steps, values))
    return found


def _draw(drawing: Drawing, curves: Sequence[Curve], levels: dict[str, float], theme: Theme) -> Figure:
    figure, axes = style.subplots(width=5.2, height=2.7)
    plot_curves(axes, curves, theme)
    low, high = axes.get_ylim()
    for place, (name, level) in enumerate(levels.items(), len(curves)):
        axes.axhline(level, color=theme.series[place], linestyle="--", linewidth=1.2, label=f"{name} {level:.3g}")
        low, high = min(low, level), max(high, level)
    margin = 0.06 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    style.label(axes, drawing.title, "step", drawing.y)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _deviations(run: Run) -> np.ndarray | None:
    try:
        return np.sort(run.embeddings("test", "after").std(0))[::-1]
    except Missing:
        return None


def _draw_dimensions(deviation: np.ndarray, theme: Theme) -> Figure:
    figure, axes = style.subplots(width=5.2, height=2.7)
    axes.bar(np.arange(len(deviation)), deviation, width=1.0, color=theme.after)
    axes.grid(axis="x", visible=False)
    style.label(axes, "Spread of each dimension", "dimension, widest first", "standard deviation")
    return figure
