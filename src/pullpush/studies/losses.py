"""Losses beside each other under one budget."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pullpush.reports import style
from pullpush.reports.curves import averaged, plot_curves
from pullpush.reports.histograms import similarities
from pullpush.reports.page import Block, Section, drawn
from pullpush.reports.projection import COLORED, Map, draw_maps, make_map
from pullpush.runs.config import Config
from pullpush.runs.reader import Curve, Missing, RunFolder, or_else
from pullpush.studies.gap import gaps_of, open_question
from pullpush.studies.obtained import margin_meaning
from pullpush.studies.page import tabled, write_page
from pullpush.studies.plan import StudyRun, named
from pullpush.studies.recorders import StepTimes, seconds_per_step
from pullpush.studies.runner import finished, folder_of
from pullpush.studies.seeds import paired_section, plot_seeds, summary
from pullpush.studies.spread import meaning, spread
from pullpush.studies.table import curves_of, log_of, table_of, write_table

__all__ = ["draw_losses", "losses_runs"]

Points = tuple[NDArray[np.float64], NDArray[np.float64]]

MAP_ITEMS = 1500
PLANE_ANCHORS = 800

# What is drawn of each loss: the key of the log, its name in the legend, and in the caption.
CURVES = (
    ("train/loss", "training", ""),
    ("validation/loss_miner", "validation, with the miner", "on batches with the miner"),
    ("validation/loss_no_miner", "validation, without", "on the same batches without it"),
    ("validation/loss_all", "validation, all pairs", "over all pairs"),
)


def losses_runs(configs: Sequence[Config]) -> list[StudyRun]:
    """A run a configuration, named by loss and seed."""
    return [named(config, (StepTimes,)) for config in configs]


def draw_losses(
    runs: Sequence[StudyRun], out: Path, failed: Sequence[str] = (), window: int = 50, target: float = 0.0
) -> Path:
    """Tables, figures and page.html from what the finished runs left; nothing is trained.

    Args:
        target: validation recall@1 that counts as reached; 0 for what every run reaches.

    Returns:
        The page.
    """
    runs = finished(runs, out)
    table = table_of(runs, out)
    recall = [log_of(run, out, "validation/recall@1") for run in runs]
    target = target or min(float(curve.values.max(initial=0)) for curve in recall)
    table["ms_per_step"] = [1000 * seconds_per_step(folder_of(out, run)) for run in runs]
    table["steps_to_target"] = [next(iter(curve.steps[curve.values >= target]), np.nan) for curve in recall]
    table["seconds_to_target"] = table["steps_to_target"] * table["ms_per_step"] / 1000
    write_table(table.drop(columns="validation/map@r"), out / "table.csv")
    gaps = gaps_of(runs, out)
    write_table(gaps, out / "gap.csv")
    first: dict[str, StudyRun] = {}
    for run in runs:
        first.setdefault(run.facts["loss"], run)
    stored = {name: RunFolder(folder_of(out, run)) for name, run in first.items()}
    chosen = table.groupby("loss", sort=False)["validation/map@r"].mean().idxmax()
    sections = [
        Section("Final test metrics and time", [Block(text=_targets(table, target)), tabled(_summary(table))]),
        paired_section(table, ["loss"], [{"loss": chosen}], out, "the loss that the validation classes choose"),
        Section("Convergence", [*_validation(runs, table, recall, out), _losses(first, out, window)]),
        Section(
            "Does the miner explain the gap between training and validation loss?", [Block(text=open_question(gaps))]
        ),
        Section("Where pairs stand", _pairs(stored, {name: run.config for name, run in first.items()}, out)),
        Section("Maps", _maps(stored, out)),
    ]
    means = table.groupby("loss", sort=False)["recall@1"].mean().sort_values(ascending=False)
    lead = "Test recall@1: " + ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()) + "."
    return write_page("Losses beside each other", lead, sections, runs, out, failed, table=table)


def _targets(table: pd.DataFrame, target: float) -> list[str]:
    if table["steps_to_target"].isna().all():
        return []
    return [
        f"Steps to a validation recall@1 of {target:.3f} are at the first evaluation that reaches it"
        + (
            "; seconds are steps times the median time of a step, without evaluations."
            if table["seconds_to_target"].notna().any()
            else "."
        )
    ]


def _validation(runs: Sequence[StudyRun], table: pd.DataFrame, recall: Sequence[Curve], out: Path) -> list[Block]:
    """The figure of the validation metrics; none where no run was validated."""
    if not any(len(curve.steps) for curve in recall):
        return []
    repeats = table.groupby("loss").size()
    seeds = f", mean over seeds. {meaning(repeats)}" if repeats.max() > 1 else "."
    caption = f"Recall@1 and MAP@R on the validation classes{seeds}"
    return [drawn(partial(_draw_validation, runs, out), out / "validation.png", caption)]


def _losses(first: Mapping[str, StudyRun], out: Path, window: int) -> Block:
    """The figure of the losses of the first seed, with what is drawn of them."""
    curves = {loss: [log_of(run, out, key, name) for key, name, _ in CURVES] for loss, run in first.items()}
    training, *validation = zip(*curves.values(), strict=True)
    count = averaged(training, window)
    shown = f"moving average of {count} steps over raw values" if count > 1 else "of each step"
    words = [said for (_, _, said), same in zip(CURVES[1:], validation, strict=True) if any(len(c.steps) for c in same)]
    caption = f"First seed. Training loss: {shown}." + (f" Validation: {', '.join(words)}." if words else "")
    return drawn(partial(_draw_losses, curves, window), out / "losses.png", caption)


def _pairs(stored: Mapping[str, RunFolder], configs: Mapping[str, Config], out: Path) -> list[Block]:
    """Where pairs stand; nothing where no anchor has both a positive and a negative."""
    points = {name: planes for name, run in stored.items() if (planes := _planes(run))}
    if not points:
        return []
    lines = {
        (True,): "Line: the boundary of the loss.",
        (False,): "Dashed: s_p = s_n.",
        (False, True): "Line: the boundary of the loss; dashed: s_p = s_n, where it has none in this plane.",
    }
    kinds = tuple(sorted({_boundary(configs[name])[1] for name in points}))
    caption = f"A dot is an anchor of the test classes with its nearest negative and a random positive. {lines[kinds]}"
    return [
        drawn(partial(_draw_plane, points, configs), out / "plane.png", caption),
        Block(lines=[margin_meaning(configs[name]) for name in points]),
    ]


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row a loss; "not reached" where a run never came to the target, as a mean of the others would flatter it."""

    def target(part: pd.DataFrame, column: str, form: str) -> str:
        missed = int(part["steps_to_target"].isna().sum())
        return f"not reached in {missed} of {len(part)}" if missed else spread(part[column]).formatted(form)

    parts = [part for _, part in table.groupby("loss", sort=False)]
    return summary(table, ["loss"]).assign(
        **{
            "ms a step": [spread(part["ms_per_step"]).formatted(".2f") for part in parts],
            "steps to target": [target(part, "steps_to_target", ".0f") for part in parts],
            "seconds to target": [target(part, "seconds_to_target", ".1f") for part in parts],
        }
    )


def _maps(stored: Mapping[str, RunFolder], out: Path) -> list[Block]:
    blocks = []
    for name, run in stored.items():
        maps = or_else(partial(_maps_of, run), [])
        if maps:
            most = max(min(COLORED, one.items.table["label"].nunique()) for _, one in maps)
            titles = " and ".join(title for title, _ in maps)
            caption = f"{name}, first seed: {titles}, up to {most} of each in colour."
            blocks.append(drawn(partial(draw_maps, maps), out / f"map-{name}.png", caption))
    return blocks


def _draw_validation(runs: Sequence[StudyRun], out: Path, theme: style.Theme) -> Figure:
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


def _draw_losses(curves: Mapping[str, Sequence[Curve]], window: int, theme: style.Theme) -> Figure:
    """A panel a loss, by name, with the curves of its training and validation losses."""
    figure, axes = style.panels(theme, len(curves))
    for panel, (name, of_loss) in zip(axes, curves.items(), strict=True):
        plot_curves(panel, of_loss, theme, window=window)
        style.label(panel, name, "step", "loss")
    style.legend_below(figure, columns=4)
    return figure


def _draw_plane(
    points: Mapping[str, Mapping[str, Points]], configs: Mapping[str, Config], theme: style.Theme
) -> Figure:
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
            panel.set(aspect="equal", xlim=(-0.5, 1.05), ylim=(-0.5, 1.05))
            line, exact = _boundary(configs[name])
            panel.plot(*line, color=theme.ink, linewidth=1.2, linestyle="-" if exact else "--")
            if when in planes:
                color = theme.before if when == "before" else theme.after
                panel.scatter(*planes[when], s=7, color=color, alpha=0.4, linewidths=0)
    return figure


def _planes(run: RunFolder) -> dict[str, Points]:
    """The points of the plane before and after training, without those that are not there."""
    planes = {when: or_else(partial(_plane_points, run, when), None) for when in ("before", "after")}
    return {when: points for when, points in planes.items() if points is not None}


def _plane_points(run: RunFolder, when: str, seed: int = 0) -> Points:
    """Of anchors of the test split, their similarity to the nearest negative and to a random positive."""
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


def _boundary(config: Config) -> tuple[Points, bool]:
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


def _maps_of(run: RunFolder) -> list[tuple[str, Map]]:
    """Maps of the training classes and of the unseen ones, after training.

    Raises:
        Missing: embeddings are not there.
    """
    titles = {"train": "training classes", "test": run.queried}
    return [
        (title, make_map(run.split(split), run.embeddings(split, "after"), limit=MAP_ITEMS))
        for split, title in titles.items()
    ]
