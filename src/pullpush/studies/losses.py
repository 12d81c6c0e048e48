"""Losses beside each other under one budget."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pullpush.reports.curves import averaged
from pullpush.reports.page import Block, Section, drawn
from pullpush.reports.projection import COLORED, draw_maps
from pullpush.runs.config import Config
from pullpush.runs.reader import Curve, Missing, RunFolder
from pullpush.studies import figures
from pullpush.studies.gap import gaps_of, open_question
from pullpush.studies.obtained import margin_meaning
from pullpush.studies.page import tabled, write_page
from pullpush.studies.plan import StudyRun, named
from pullpush.studies.recorders import StepTimes, seconds_per_step
from pullpush.studies.runner import finished, folder_of
from pullpush.studies.seeds import paired_section, summary
from pullpush.studies.spread import meaning, spread
from pullpush.studies.table import log_of, table_of, write_table

__all__ = ["draw_losses", "losses_runs"]

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
    return [drawn(partial(figures.draw_validation, runs, out), out / "validation.png", caption)]


def _losses(first: Mapping[str, StudyRun], out: Path, window: int) -> Block:
    """The figure of the losses of the first seed, with what is drawn of them."""
    curves = {loss: [log_of(run, out, key, name) for key, name, _ in CURVES] for loss, run in first.items()}
    training, *validation = zip(*curves.values(), strict=True)
    count = averaged(training, window)
    shown = f"moving average of {count} steps over raw values" if count > 1 else "of each step"
    words = [said for (_, _, said), same in zip(CURVES[1:], validation, strict=True) if any(len(c.steps) for c in same)]
    caption = f"First seed. Training loss: {shown}." + (f" Validation: {', '.join(words)}." if words else "")
    return drawn(partial(figures.draw_losses, curves, window), out / "losses.png", caption)


def _pairs(stored: Mapping[str, RunFolder], configs: Mapping[str, Config], out: Path) -> list[Block]:
    """Where pairs stand; nothing where no anchor has both a positive and a negative."""
    points = {name: planes for name, run in stored.items() if (planes := figures.plane_points(run))}
    if not points:
        return []
    lines = {
        (True,): "Line: the boundary of the loss.",
        (False,): "Dashed: s_p = s_n.",
        (False, True): "Line: the boundary of the loss; dashed: s_p = s_n, where it has none in this plane.",
    }
    kinds = tuple(sorted({figures.boundary(configs[name])[1] for name in points}))
    caption = f"A dot is an anchor of the test classes with its nearest negative and a random positive. {lines[kinds]}"
    return [
        drawn(partial(figures.draw_plane, points, configs), out / "plane.png", caption),
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
        try:
            maps = figures.maps_of(run)
        except Missing:
            continue
        most = max(min(COLORED, one.items.table["label"].nunique()) for _, one in maps)
        titles = " and ".join(title for title, _ in maps)
        caption = f"{name}, first seed: {titles}, up to {most} of each in colour."
        blocks.append(drawn(partial(draw_maps, maps), out / f"map-{name}.png", caption))
    return blocks
