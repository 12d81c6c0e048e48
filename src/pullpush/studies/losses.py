"""Losses beside each other under one budget."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pullpush.reports.curves import fitting_window
from pullpush.reports.page import Block, Page, Section, drawn
from pullpush.reports.projection import COLORED
from pullpush.runs.config import Config
from pullpush.runs.reader import Missing, RunFolder
from pullpush.studies import figures
from pullpush.studies.gap import gaps_of, open_question
from pullpush.studies.obtained import how_obtained, margin_meaning
from pullpush.studies.page import tabled
from pullpush.studies.plan import StudyRun
from pullpush.studies.recorders import StepTimes, seconds_per_step
from pullpush.studies.runner import folder_of, is_finished
from pullpush.studies.seeds import paired_section
from pullpush.studies.spread import meaning, spread
from pullpush.studies.table import log_of, table_of, write_table

__all__ = ["draw_losses", "losses_runs"]


def losses_runs(configs: Sequence[Config]) -> list[StudyRun]:
    """A run a configuration, named by loss and seed."""
    return [
        StudyRun(f"{c.loss.name}-seed-{c.seed}", c, {"loss": c.loss.name, "seed": c.seed}, (StepTimes,))
        for c in configs
    ]


def draw_losses(
    runs: Sequence[StudyRun], out: Path, failed: Sequence[str] = (), window: int = 50, target: float = 0.0
) -> Path:
    """Tables, figures and page.html from what the finished runs left; nothing is trained.

    Args:
        target: validation recall@1 that counts as reached; 0 for what every run reaches.

    Returns:
        The page.
    """
    runs = [run for run in runs if is_finished(folder_of(out, run))]
    table = table_of(runs, out)
    target = target or min(_best_recall(run, out) for run in runs)
    table["ms_per_step"] = [1000 * seconds_per_step(folder_of(out, run)) for run in runs]
    table["steps_to_target"] = [_steps_to(run, out, target) for run in runs]
    table["seconds_to_target"] = table["steps_to_target"] * table["ms_per_step"] / 1000
    write_table(table.drop(columns="validation/map@r"), out / "table.csv")
    first = {run.facts["loss"]: run for run in reversed(runs)}
    first = {name: first[name] for name in dict.fromkeys(run.facts["loss"] for run in runs)}
    repeats = table.groupby("loss").size()
    gaps = gaps_of(runs, out)
    write_table(gaps, out / "gap.csv")

    def shown(name: str, draw: Any, caption: str) -> Block:
        return drawn(draw, out / f"{name}.png", caption)

    validated = any(len(log_of(run, out, "validation/recall@1").steps) for run in runs)
    sections = [
        Section("Final test metrics and time", [Block(text=_targets(table, target)), tabled(_summary(table))]),
        *paired_section(
            table, ["loss"], [{"loss": _chosen(table)}], out, "the loss that the validation classes choose"
        ),
        Section(
            "Convergence",
            [
                *(
                    [
                        shown(
                            "validation",
                            lambda theme: figures.draw_validation(runs, out, theme),
                            "Recall@1 and MAP@R on the validation classes"
                            + (", mean over seeds. " + meaning(repeats) if repeats.max() > 1 else "."),
                        )
                    ]
                    if validated
                    else []
                ),
                shown(
                    "losses",
                    lambda theme: figures.draw_losses(first, out, window, theme),
                    _losses_caption(first, out, window),
                ),
            ],
        ),
        Section(
            "Does the miner explain the gap between training and validation loss?", [Block(text=open_question(gaps))]
        ),
        _pairs(first, out, shown),
        Section("Maps", _maps({n: RunFolder(folder_of(out, r)) for n, r in first.items()}, shown)),
        Section(
            "How the numbers were obtained", [Block(lines=how_obtained(runs, out, failed, ("test", "seeds", "times")))]
        ),
        Section("All runs", [tabled(table)]),
    ]
    return Page("study", "Losses beside each other", _sentence(table), sections).write(out / "page.html")


def _chosen(table: pd.DataFrame) -> str:
    """The loss with the best MAP@R on the validation classes."""
    return str(table.groupby("loss", sort=False)["validation/map@r"].mean().idxmax())


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


def _losses_caption(first: dict[str, StudyRun], out: Path, window: int) -> str:
    """What is drawn of the first seed, from what its runs logged."""
    logged = {key for key in figures.VALIDATION if any(len(log_of(r, out, key).steps) for r in first.values())}
    length = max(len(log_of(run, out, "train/loss").steps) for run in first.values())
    averaged = fitting_window(length, window)
    training = f"moving average of {averaged} steps over raw values" if averaged > 1 else "of each step"
    words = {
        "validation/loss_miner": "on batches with the miner",
        "validation/loss_no_miner": "on the same batches without it",
        "validation/loss_all": "over all pairs",
    }
    validation = ", ".join(text for key, text in words.items() if key in logged)
    return f"First seed. Training loss: {training}." + (f" Validation: {validation}." if validation else "")


def _pairs(first: dict[str, StudyRun], out: Path, shown: Any) -> Section:
    """Where pairs stand; without a figure, and so left out, where no anchor has both a positive and a negative."""
    points = {name: figures.plane_points(RunFolder(folder_of(out, run))) for name, run in first.items()}
    points = {name: found for name, found in points.items() if found}
    configs = {name: first[name].config for name in points}
    if not points:
        return Section("Where pairs stand", [])
    kinds = {figures.boundary(config)[1] for config in configs.values()}
    lines = {
        frozenset([True]): "Line: the boundary of the loss.",
        frozenset([False]): "Dashed: s_p = s_n.",
        frozenset([True, False]): "Line: the boundary of the loss; dashed: s_p = s_n, where it has none in this plane.",
    }
    caption = "A dot is an anchor of the test classes with its nearest negative and a random positive. "
    draw = lambda theme: figures.draw_plane(points, configs, theme)  # noqa: E731
    return Section(
        "Where pairs stand",
        [
            shown("plane", draw, caption + lines[frozenset(kinds)]),
            Block(lines=[margin_meaning(config) for config in configs.values()]),
        ],
    )


def _best_recall(run: StudyRun, out: Path) -> float:
    values = log_of(run, out, "validation/recall@1").values
    return float(values.max()) if len(values) else 0.0


def _steps_to(run: StudyRun, out: Path, target: float) -> float:
    curve = log_of(run, out, "validation/recall@1")
    reached = np.flatnonzero(curve.values >= target)
    return float(curve.steps[reached[0]]) if len(reached) else float("nan")


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row a loss; "not reached" where a run never came to the target, as a mean of the others would flatter it."""

    def target(part: pd.DataFrame, column: str, form: str) -> str:
        missed = int(part["steps_to_target"].isna().sum())
        if missed:
            return f"not reached in {missed} of {len(part)}"
        return spread(part[column]).formatted(form)

    return pd.DataFrame(
        {
            "loss": name,
            "runs": len(part),
            "recall@1": spread(part["recall@1"], 0, 1).formatted(),
            "map@r": spread(part["map@r"], 0, 1).formatted(),
            "ms a step": spread(part["ms_per_step"]).formatted(".2f"),
            "steps to target": target(part, "steps_to_target", ".0f"),
            "seconds to target": target(part, "seconds_to_target", ".1f"),
        }
        for name, part in table.groupby("loss", sort=False)
    )


def _sentence(table: pd.DataFrame) -> str:
    means = table.groupby("loss", sort=False)["recall@1"].mean().sort_values(ascending=False)
    return "Test recall@1: " + ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()) + "."


def _maps(stored: dict[str, RunFolder], shown: Any) -> list[Block]:
    found = []
    for name, run in stored.items():
        try:
            maps = figures.maps_of(run)
        except Missing:
            continue
        most = max(min(COLORED, one.items.table["label"].nunique()) for _, one in maps)
        found.append(
            shown(
                f"map-{name}",
                lambda theme, maps=maps: figures.draw_maps(maps, theme),
                f"{name}, first seed: {' and '.join(title for title, _ in maps)}, up to {most} of each in colour.",
            )
        )
    return found
