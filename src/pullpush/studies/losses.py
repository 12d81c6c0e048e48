"""Losses beside each other under one budget."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pullpush.reports import style
from pullpush.reports.run import Missing
from pullpush.reports.run import Run as Stored
from pullpush.studies import figures
from pullpush.studies.page import Section, Shown, how_obtained, margin_meaning, write_page
from pullpush.studies.plan import StudyRun
from pullpush.studies.recorders import StepTimes, seconds_per_step
from pullpush.studies.runner import folder_of, is_finished
from pullpush.studies.table import interval, log_of, table_of, write_table
from pullpush.training.config import Config

__all__ = ["draw_losses", "losses_runs", "open_question"]

# Steps at the end of a run over which its training loss is averaged.
LAST = 50


def losses_runs(configs: Sequence[Config]) -> list[StudyRun]:
    """A run a configuration, named by loss and seed."""
    return [
        StudyRun(f"{c.loss['name']}-seed-{c.seed}", c, {"loss": c.loss["name"], "seed": c.seed}, (StepTimes,))
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
    gaps = pd.DataFrame([_gap(run, out) for run in runs])
    write_table(gaps, out / "gap.csv")

    def shown(name: str, draw: Any, caption: str) -> Shown:
        return Shown(style.save(draw, out / f"{name}.png"), caption)

    stored = {name: Stored(folder_of(out, run)) for name, run in first.items()}
    sections = [
        Section(
            "Final test metrics and time",
            text=[
                f"Steps and seconds to a validation recall@1 of {target:.3f} are at the first evaluation that reaches "
                "it; seconds are steps times the median time of a step, without evaluations."
            ],
            table=_summary(table),
        ),
        Section(
            "Convergence",
            figures=[
                shown(
                    "validation",
                    lambda theme: figures.draw_validation(runs, out, theme),
                    "Recall@1 and MAP@R on the validation classes, mean over seeds with 95% intervals.",
                ),
                shown(
                    "losses",
                    lambda theme: figures.draw_losses(first, out, window, theme),
                    f"First seed. Training loss: moving average of up to {window} steps over raw values. Validation: "
                    "on batches with the miner, on the same batches without it, and over all pairs.",
                ),
            ],
        ),
        Section("Does the miner explain the gap between training and validation loss?", text=[open_question(gaps)]),
        Section(
            "Where pairs stand",
            figures=[
                shown(
                    "plane",
                    lambda theme: figures.draw_plane(stored, {n: r.config for n, r in first.items()}, theme),
                    "A dot is an anchor of the test classes with its nearest negative and a random positive, before "
                    "and after training. Line: the boundary of the loss (dashed: s_p = s_n, where it has none).",
                )
            ],
            points=[margin_meaning(run.config) for run in first.values() if "margin" in run.config.loss],
        ),
        Section("Maps", figures=_maps(stored, shown)),
        Section("How the numbers were obtained", points=how_obtained(runs, out, failed)),
        Section("All runs", table=table),
    ]
    page = out / "page.html"
    write_page(page, "Losses beside each other", _sentence(table), sections)
    return page


def open_question(gaps: pd.DataFrame) -> str:
    """One paragraph: how much of the gap between validation and training loss goes when validation has the miner too.

    share = (V_without - V_with) / (V_without - T), of the means over seeds
    """
    parts = []
    for name, part in gaps.groupby("loss", sort=False):
        if part[["with_miner", "without_miner"]].isna().any(axis=None):
            parts.append(f"{name} compares with proxies of training classes and has no loss on others.")
            continue
        t, mined, plain, everything = (part[k].mean() for k in ("training", "with_miner", "without_miner", "all_pairs"))
        text = (
            f"{name}: training {t:.3f}; validation with the miner {mined:.3f}, without it on the same batches "
            f"{plain:.3f}, over all pairs {everything:.3f}."
        )
        if not part["miner"].iloc[0]:
            text += " It has no miner, so the question does not arise."
        elif abs(plain - t) < 0.05 * max(abs(t), abs(plain), 1e-9):
            text += " Without the miner there is no gap to explain" + (
                "; with it there is one, as it keeps the hard pairs of unseen classes." if mined > plain else "."
            )
        elif (share := (plain - mined) / (plain - t)) < 0:
            text += (
                f" The missing miner does not explain the gap: with it the gap is {1 - share:.1f} times as wide, as it "
                "keeps the hard pairs. The classes are unseen, and that remains."
            )
        else:
            verdict = (
                "the missing miner explains most of the gap"
                if 0.5 < share <= 1.5
                else "the missing miner explains a part of the gap"
                if 0.1 < share <= 0.5
                else "the missing miner does not explain the gap: the classes are unseen, and that remains"
            )
            text += f" Giving validation the miner changes {100 * share:.0f}% of the gap; {verdict}."
        parts.append(text)
    return " ".join(parts)


def _gap(run: StudyRun, out: Path) -> dict[str, Any]:
    def last(key: str, count: int = 1) -> float:
        values = log_of(run, out, key).values[-count:]
        return float(values.mean()) if len(values) else float("nan")

    return {
        **run.facts,
        "miner": run.config.miner["name"] != "none",
        "training": last("train/loss", LAST),
        "with_miner": last("validation/loss_miner"),
        "without_miner": last("validation/loss_no_miner"),
        "all_pairs": last("validation/loss_all"),
    }


def _best_recall(run: StudyRun, out: Path) -> float:
    values = log_of(run, out, "validation/recall@1").values
    return float(values.max()) if len(values) else 0.0


def _steps_to(run: StudyRun, out: Path, target: float) -> float:
    curve = log_of(run, out, "validation/recall@1")
    reached = np.flatnonzero(curve.values >= target)
    return float(curve.steps[reached[0]]) if len(reached) else float("nan")


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    def cell(values: pd.Series, form: str = ".3f") -> str:
        mean, low, high = interval(values.dropna().to_numpy()) if values.notna().any() else (float("nan"),) * 3
        return f"{mean:{form}}" + (f" ({low:{form}} to {high:{form}})" if len(values) > 1 else "")

    return pd.DataFrame(
        {
            "loss": name,
            "runs": len(part),
            "recall@1": cell(part["recall@1"]),
            "map@r": cell(part["map@r"]),
            "spread of recall@1 (std)": float(part["recall@1"].std(ddof=1)) if len(part) > 1 else float("nan"),
            "ms a step": cell(part["ms_per_step"], ".2f"),
            "steps to target": cell(part["steps_to_target"], ".0f"),
            "seconds to target": cell(part["seconds_to_target"], ".1f"),
        }
        for name, part in table.groupby("loss", sort=False)
    )


def _sentence(table: pd.DataFrame) -> str:
    means = table.groupby("loss", sort=False)["recall@1"].mean().sort_values(ascending=False)
    return "Test recall@1 on unseen classes: " + ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()) + "."


def _maps(stored: dict[str, Stored], shown: Any) -> list[Shown]:
    found = []
    for name, run in stored.items():
        try:
            maps = figures.maps_of(run)
        except Missing:
            continue
        found.append(
            shown(
                f"map-{name}",
                lambda theme, maps=maps: figures.draw_maps(maps, theme),
                f"{name}, first seed: training classes and unseen classes, eight of each in colour.",
            )
        )
    return found
