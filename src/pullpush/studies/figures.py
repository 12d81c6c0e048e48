"""Figures of the study of losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pullpush.maths import losses
from pullpush.reports import style
from pullpush.reports.curves import fitting_window, plot_line_with_band, smooth
from pullpush.reports.projection import Map, draw_maps, make_map
from pullpush.reports.run import Missing
from pullpush.reports.run import Run as Stored
from pullpush.studies.plan import StudyRun
from pullpush.studies.table import interval, log_of
from pullpush.training.config import Config

__all__ = ["draw_losses", "draw_maps", "draw_plane", "draw_validation", "maps_of"]

MAP_ITEMS = 1500
PLANE_ANCHORS = 800
VALIDATION = {
    "validation/loss_miner": "validation, with the miner",
    "validation/loss_no_miner": "validation, without",
    "validation/loss_all": "validation, all pairs",
}


def draw_validation(runs: Sequence[StudyRun], out: Path, theme: style.Theme) -> Figure:
    """Recall@1 and MAP@R on the validation classes over steps, a line a loss."""
    figure, axes = style.subplots(1, 2, width=9.6, height=3.8)
    names = list(dict.fromkeys(run.facts["loss"] for run in runs))
    for panel, (metric, title) in zip(axes, {"recall@1": "recall@1", "map@r": "MAP@R"}.items(), strict=True):
        for place, name in enumerate(names):
            curves = [log_of(run, out, f"validation/{metric}") for run in runs if run.facts["loss"] == name]
            length = min(len(curve.steps) for curve in curves)
            if not length:
                continue
            repeats = zip(*(curve.values[:length] for curve in curves), strict=True)
            mean, low, high = np.clip([interval(values) for values in repeats], 0, 1).T
            plot_line_with_band(
                panel, curves[0].steps[:length], mean, low, high, label=name,
                color=theme.series[place % 8], marker=style.MARKERS[place % 8],
            )  # fmt: skip
        style.label(panel, f"Validation {title}", "step", "fraction")
    axes[0].legend(loc="lower right")
    return figure


def draw_losses(first: Mapping[str, StudyRun], out: Path, window: int, theme: style.Theme) -> Figure:
    """A panel a loss: training loss, and validation loss with and without the miner and over all pairs."""
    figure, axes = style.subplots(1, len(first), width=4.8 * max(2, len(first)), height=3.8, squeeze=False)
    for panel, (name, run) in zip(axes[0], first.items(), strict=True):
        train = log_of(run, out, "train/loss")
        if len(train.steps):
            panel.plot(train.steps, train.values, color=theme.series[0], alpha=0.2, linewidth=0.7)
            average = smooth(train.values, fitting_window(len(train.values), window))
            panel.plot(train.steps, average, color=theme.series[0], label="training")
        for place, (key, label) in enumerate(VALIDATION.items(), 1):
            curve = log_of(run, out, key)
            if len(curve.steps):
                panel.plot(
                    curve.steps, curve.values, color=theme.series[place], marker=style.MARKERS[place], markersize=4,
                    label=label,
                )  # fmt: skip
        style.label(panel, name, "step", "loss")
    # Of the panel with the most curves: a loss with proxies has the training loss only.
    lines = max((panel.get_legend_handles_labels() for panel in axes[0]), key=lambda found: len(found[0]))
    figure.legend(*lines, loc="outside lower center", ncols=4)
    return figure


def draw_plane(stored: Mapping[str, Stored], configs: Mapping[str, Config], theme: style.Theme) -> Figure:
    """The (s_n, s_p) plane before and after training, a column a loss, with the loss's boundary."""
    figure, axes = style.subplots(
        2, len(stored), width=3.9 * max(2, len(stored)), height=7.4, squeeze=False, sharex=True, sharey=True
    )
    for column, (name, run) in enumerate(stored.items()):
        for row, when in enumerate(("before", "after")):
            panel = axes[row][column]
            try:
                s_n, s_p = _plane_points(run, when)
            except Missing as missing:
                panel.set_title(str(missing))
                continue
            panel.scatter(
                s_n, s_p, s=7, color=theme.before if when == "before" else theme.after, alpha=0.4, linewidths=0
            )
            _draw_boundary(panel, configs[name], theme)
            style.label(panel, f"{name}, {when}", "similarity to a negative s_n", "similarity to a positive s_p")
            panel.set_aspect("equal")
            panel.set_xlim(-0.5, 1.05)
            panel.set_ylim(-0.5, 1.05)
    return figure


def _plane_points(run: Stored, when: str, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For anchors of the test split, the cosine to their nearest negative and to a random positive."""
    embeddings, labels = run.embeddings("test", when), run.split("test").table["label"].to_numpy()
    rng = np.random.default_rng(seed)
    anchors = rng.permutation(len(labels))[:PLANE_ANCHORS]
    similarity = embeddings[anchors].astype(np.float64) @ embeddings.T.astype(np.float64)
    same = labels[anchors][:, None] == labels[None, :]
    nearest = np.where(same, -np.inf, similarity).max(1)
    same[np.arange(len(anchors)), anchors] = False
    drawn = np.where(same, rng.random(same.shape), -1.0).argmax(1)
    used = same.any(1) & np.isfinite(nearest)
    if not used.any():
        raise Missing("no anchor of the test split has both a positive and a negative")
    return nearest[used], similarity[np.arange(len(anchors)), drawn][used]


def _draw_boundary(axes: Axes, config: Config, theme: style.Theme) -> None:
    """circle: s_n^2 + (s_p - 1)^2 = 2 m^2; triplet: s_p - s_n = m on the cosine, m / 2 of squared distances."""
    name, margin = config.loss["name"], config.loss.get("margin")
    similarity = config.similarity or losses.traits_of(losses.REGISTRY[name]).similarity
    if name == "circle":
        angle = np.linspace(0, 2 * np.pi, 200)
        radius = np.sqrt(2) * margin
        axes.plot(radius * np.cos(angle), 1 + radius * np.sin(angle), color=theme.ink, linewidth=1.2)
        return
    exact = name == "triplet" and margin is not None and similarity in ("cosine", "negative_squared_euclidean")
    offset = (margin / 2 if similarity == "negative_squared_euclidean" else margin) if exact else 0.0
    ends = np.array([-0.5, 1.05])
    axes.plot(ends, ends + offset, color=theme.ink, linewidth=1.2, linestyle="-" if exact else "--")


def maps_of(run: Stored) -> list[tuple[str, Map]]:
    """Maps of the training classes and of the unseen ones, after training.

    Raises: Missing where embeddings are not there.
    """
    titles = {"train": "training classes", "test": "unseen classes"}
    return [
        (title, make_map(run.split(split), run.embeddings(split, "after"), limit=MAP_ITEMS))
        for split, title in titles.items()
    ]
