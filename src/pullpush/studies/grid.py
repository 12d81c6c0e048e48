"""Every combination of some options of a run."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from pullpush.errors import UserError
from pullpush.reports.page import Block, Section, drawn
from pullpush.runs.config import Config
from pullpush.studies.page import tabled, write_page
from pullpush.studies.plan import StudyRun, numbers
from pullpush.studies.seeds import draw_over, paired_section, summary
from pullpush.studies.spread import meaning, where
from pullpush.studies.table import table_of, write_table

__all__ = ["draw_grid", "grid_runs", "settings_of"]


def settings_of(over: str) -> list[dict[str, Any]]:
    """`loss.margin=0.2:0.4:0.1 batch.classes=8,16` as every combination, the last option fastest.

    Raises:
        UserError: no OPTION=VALUES, or an option twice.
    """
    choices: dict[str, list[Any]] = {}
    for word in over.split():
        option, equals, values = word.removeprefix("--").partition("=")
        if not (option and equals and values):
            raise UserError(f"--over {word!r} is no OPTION=VALUES: give for instance loss.margin=0.2,0.4")
        if option in choices:
            raise UserError(f"--over names {option!r} twice: give all its values at once, separated by commas")
        choices[option] = [f"{v:g}" for v in numbers(values, "over")] if ":" in values else values.split(",")
    if not choices:
        raise UserError("--over is empty: give OPTION=VALUES, for instance loss.margin=0.2,0.4 batch.classes=8,16")
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def grid_runs(configs: Sequence[Config], settings: Sequence[Mapping[str, Any]]) -> list[StudyRun]:
    """A run a configuration, named by its setting and seed; both in the same order."""
    runs = []
    for config, setting in zip(configs, settings, strict=True):
        name = "-".join([*(f"{option}={value}" for option, value in setting.items()), f"seed={config.seed}"])
        facts = {option: _number(value) for option, value in setting.items()}
        runs.append(StudyRun(name.replace("/", "_"), config, {**facts, "seed": config.seed}))
    return runs


def draw_grid(runs: Sequence[StudyRun], out: Path, failed: Sequence[str] = ()) -> Path:
    """table.csv, summary.csv, a figure an option and page.html from what the finished runs left.

    Returns:
        The page.
    """
    table = table_of(runs, out)
    write_table(table, out / "table.csv")
    options = [name for name in runs[0].facts if name != "seed"]
    by = table.groupby(options, sort=False)
    means = by[["validation/map@r", "recall@1", "map@r", "seconds"]].mean().reset_index()
    means = means.sort_values("validation/map@r", ascending=False)
    write_table(means, out / "summary.csv")
    best = means.iloc[0].to_dict()
    setting = {option: best[option] for option in options}
    lead = (
        f"Chosen on the validation classes (MAP@R {best['validation/map@r']:.3f}): {where(setting)}; on the test "
        f"classes it has recall@1 {best['recall@1']:.3f} and MAP@R {best['map@r']:.3f}."
    )
    sections = [
        Section("Settings, best on the validation classes first", [tabled(_shown(table, options))]),
        paired_section(table, options, [setting], out, "the setting that the validation classes choose"),
        Section("Figures", _figures(table, options, out)),
    ]
    return write_page(f"Grid over {' and '.join(options)}", lead, sections, runs, out, failed, table=table)


def _shown(table: pd.DataFrame, options: Sequence[str]) -> pd.DataFrame:
    """The settings with the spread of the test metrics over seeds, the best on the validation classes first."""
    shown = summary(table, options)
    means = table.groupby(list(options), sort=False)[["validation/map@r", "seconds"]].mean().to_numpy()
    shown.insert(len(options) + 1, "validation MAP@R", means[:, 0])
    return shown.assign(seconds=means[:, 1]).sort_values("validation MAP@R", ascending=False)


def _figures(table: pd.DataFrame, options: Sequence[str], out: Path) -> list[Block]:
    """A figure for each option that has several values."""
    figures = []
    for option in options:
        if table[option].nunique() < 2:
            continue
        others = [name for name in options if name != option and table[name].nunique() > 1]
        repeats = table.groupby(list(options)).size()
        lines = f", a line for each {' and '.join(others)}" if others else ""
        seeds = f"; mean over seeds. {meaning(repeats)}" if repeats.max() > 1 else ", each point one run."
        path = out / f"over-{option.replace('.', '-')}.png"
        figures.append(drawn(partial(draw_over, table, option, options), path, f"{option}{lines}{seeds}"))
    return figures


def _number(value: Any) -> Any:
    """As it was typed: 16 stays a whole number."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
