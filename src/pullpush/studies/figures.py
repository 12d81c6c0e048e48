"""Figures of the study of losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pullpush.reports import style
from pullpush.reports.curves import plot_curves
from pullpush.reports.histograms import similarities
from pullpush.reports.projection import Map, make_map
from pullpush.runs.config import Config
from pullpush.runs.reader import Curve, Missing, RunFolder
from pullpush.studies.plan import StudyRun
from pullpush.studies.seeds import plot_seeds
from pullpush.studies.table import curves_of

__all__ = ["boundary", "draw_losses", "draw_plane", "draw_validation", "maps_of", "plane_points"]

Points = tuple[NDArray[np.float64], NDArray[np.float64]]

MAP_ITEMS = 1500
PLANE_ANCHORS = 800


def draw_validation(runs: Sequence[StudyRun], out: Path, theme: style.Theme) -> Figure:
    """Recall@1 and MAP@R on the validation classes over steps, a line a loss."""
    figure, axes = style.panels(theme, 2)
    names = list(dict.fromkeys(run.facts["loss"] for run in runs))
    for panel, (metric, title) in zip(axes, {"recall@1": "recall@1", "map@r": "MAP@R"}.items(), strict=True):
        for place, name in enumerate(names):
            values = curves_of([run for run in runs if run.facts["loss"] == name], out, f"validation/{metric}")
            if len(values):
                plot_seeds(panel, values, label=name, most=1, **theme.look(place))
        style.label(panel, f"Validation {title}", "step", "fraction")
    style.legend_below(figure, columns=5)
    return figure


def draw_losses(curves: Mapping[str, Sequence[Curve]], window: int, theme: style.Theme) -> Figure:
    """A panel a loss, by name, with the curves of its training and validation losses."""
    figure, axes = style.panels(theme, len(curves))
    for panel, (name, of_loss) in zip(axes, curves.items(), strict=True):
        plot_curves(panel, of_loss, theme, window=window)
        style.label(panel, name, "step", "loss")
    style.legend_below(figure, columns=4)
    return figure


def plane_points(run: RunFolder) -> dict[str, Points]:
    """For anchors of the test split, the cosine to their nearest negative and to a random positive, before and after
    training; without those that are not there."""
    planes = {}
    for when in ("before", "after"):
        try:
            planes[when] = _plane_points(run, when)
        except Missing:
            continue
    return planes


def draw_plane(points: Mapping[str, Mapping[str, Points]], configs: Mapping[str, Config], theme: style.Theme) -> Figure:
    """The (s_n, s_p) plane before and after training, a column a loss, with the loss's boundary."""
    rows = [when for when in ("before", "after") if any(when in planes for planes in points.values())]
    # On a phone a row a loss, else a column.
    shape = (len(points), len(rows)) if theme.narrow else (len(rows), len(points))
    side = 2.8 if theme.narrow else 3.8
    figure, axes = style.subplots(
        *shape, width=side * max(2, shape[1]), height=side * shape[0], squeeze=False, sharex=True, sharey=True
    )
    for column, (name, planes) in enumerate(points.items()):
        for row, when in enumerate(rows):
            panel = axes[column][row] if theme.narrow else axes[row][column]
            style.label(panel, f"{name}, {when}", "similarity to a negative s_n", "similarity to a positive s_p")
            panel.set_aspect("equal")
            panel.set_xlim(-0.5, 1.05)
            panel.set_ylim(-0.5, 1.05)
            line, exact = boundary(configs[name])
            panel.plot(*line, color=theme.ink, linewidth=1.2, linestyle="-" if exact else "--")
            if when in planes:
                color = theme.before if when == "before" else theme.after
                panel.scatter(*planes[when], s=7, color=color, alpha=0.4, linewidths=0)
    return figure


def _plane_points(run: RunFolder, when: str, seed: int = 0) -> Points:
    """Of each anchor, its similarity to its nearest negative and to a random positive."""
    embeddings, queries = run.embeddings("test", when), run.evaluation("test", when).per_query
    known = queries[(queries["nearest_positive"] >= 0) & (queries["nearest_negative"] >= 0)]
    if known.empty:
        raise Missing("no anchor of the test split has both a positive and a negative")
    rng = np.random.default_rng(seed)
    known = known.iloc[rng.permutation(len(known))[:PLANE_ANCHORS]]
    items = run.split("test").table
    gallery = items.reset_index(drop=True)[items["role"].to_numpy() != "query"].groupby("label").groups
    anchors = known.index.to_numpy()
    positives = np.array(
        [rng.choice(gallery[label].drop(anchor, errors="ignore")) for anchor, label in known["label"].items()]
    )
    negatives = known["nearest_negative"].to_numpy()
    pairs = np.stack([anchors, negatives], 1), np.stack([anchors, positives], 1)
    return similarities(embeddings, pairs[0]), similarities(embeddings, pairs[1])


def boundary(config: Config) -> tuple[Points, bool]:
    """The line of the plane on which the loss stops pulling and pushing, and whether it has one there; else s_p = s_n.

    circle: s_n^2 + (s_p - 1)^2 = 2 m^2; triplet: s_p - s_n = m on the cosine, m / 2 of squared distances.
    """
    name, margin = config.loss.name, config.loss.options.get("margin")
    similarity = config.similarity or config.loss.traits.similarity
    if name == "circle":
        angle = np.linspace(0, 2 * np.pi, 200)
        radius = np.sqrt(2) * margin
        return (radius * np.cos(angle), 1 + radius * np.sin(angle)), True
    ends = np.array([-0.5, 1.05])
    if name != "triplet" or margin is None or similarity not in ("cosine", "negative_squared_euclidean"):
        return (ends, ends), False
    return (ends, ends + (margin / 2 if similarity == "negative_squared_euclidean" else margin)), True


def maps_of(run: RunFolder) -> list[tuple[str, Map]]:
    """Maps of the training classes and of the unseen ones, after training.

    Raises: Missing where embeddings are not there.
    """
    titles = {"train": "training classes", "test": run.queried}
    return [
        (title, make_map(run.split(split), run.embeddings(split, "after"), limit=MAP_ITEMS))
        for split, title in titles.items()
    ]
