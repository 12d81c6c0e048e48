"""Every combination of some options of a run."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pullpush.errors import UserError
from pullpush.reports import style
from pullpush.reports.page import Block, Page, Section, drawn
from pullpush.runs.config import Config
from pullpush.studies.obtained import how_obtained
from pullpush.studies.page import tabled
from pullpush.studies.plan import StudyRun, numbers
from pullpush.studies.seeds import METRICS, by_seed, paired_section, plot_seeds
from pullpush.studies.spread import meaning, spread, where
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
    summary = by[["validation/map@r", "recall@1", "map@r", "seconds"]].mean().reset_index()
    summary = summary.sort_values("validation/map@r", ascending=False)
    write_table(summary, out / "summary.csv")
    best = summary.iloc[0].to_dict()
    setting = {option: best[option] for option in options}
    shows = ("test", "seeds", "times")
    return Page(
        "study",
        "Grid over " + " and ".join(options),
        f"Chosen on the validation classes (MAP@R {best['validation/map@r']:.3f}): {where(setting)}; on the test "
        f"classes it has recall@1 {best['recall@1']:.3f} and MAP@R {best['map@r']:.3f}.",
        [
            Section("Settings, best on the validation classes first", [tabled(_shown(table, summary, options))]),
            *paired_section(table, options, [setting], out, "the setting that the validation classes choose"),
            Section("Figures", _figures(table, options, out)),
            Section("How the numbers were obtained", [Block(lines=how_obtained(runs, out, failed, shows))]),
            Section("All runs", [tabled(table)]),
        ],
    ).write(out / "page.html")


def _shown(table: pd.DataFrame, summary: pd.DataFrame, options: Sequence[str]) -> pd.DataFrame:
    """The settings with the spread of the test metrics over seeds, in the order of `summary`."""
    by = {key: part for key, part in table.groupby(list(options), sort=False)}
    rows = []
    for row in summary.to_dict("records"):
        part = by[tuple(row[option] for option in options)]
        said = {title: spread(part[metric], 0, 1).formatted() for metric, title in METRICS.items()}
        start = {option: row[option] for option in options} | {"runs": len(part)}
        rows.append({**start, "validation MAP@R": row["validation/map@r"], **said, "seconds": row["seconds"]})
    return pd.DataFrame(rows)


def _figures(table: pd.DataFrame, options: Sequence[str], out: Path) -> list[Block]:
    """A figure for each option that has several values."""
    found = []
    for option in options:
        if table[option].nunique() < 2:
            continue
        others = [name for name in options if name != option and table[name].nunique() > 1]
        repeats = table.groupby(list(options)).size()
        lines = f", a line for each {' and '.join(others)}" if others else ""
        seeds = f"; mean over seeds. {meaning(repeats)}" if repeats.max() > 1 else ", each point one run."
        path = out / f"over-{option.replace('.', '-')}.png"
        found.append(drawn(partial(_draw_over, table, option, options), path, f"{option}{lines}{seeds}"))
    return found


def _number(value: Any) -> Any:
    """As it was typed: 16 stays a whole number."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _draw_over(table: pd.DataFrame, option: str, options: Sequence[str], theme: style.Theme) -> Figure:
    """Metrics over one option, a line for each setting of the others: on a scale where its values are numbers."""
    others = [name for name in options if name != option]
    figure, axes = style.panels(theme, 2, height=3.9)
    values = sorted(table[option].unique(), key=lambda v: (isinstance(v, str), v))
    numeric = pd.api.types.is_numeric_dtype(table[option])
    settings = list(table.groupby(others, sort=False)) if others else [((), table)]
    for panel, (metric, title) in zip(axes, METRICS.items(), strict=True):
        for place, (key, part) in enumerate(settings):
            by = by_seed(part, option, metric)
            setting = where(dict(zip(others, key, strict=True)))
            plot_seeds(
                panel,
                by,
                label=setting or title,
                most=1,
                color=theme.series[place % 8],
                marker=style.MARKERS[(place + place // 8) % 8],
                x=by.index if numeric else [values.index(v) for v in by.index],
            )
        if not numeric:
            panel.set_xticks(range(len(values)), [str(value) for value in values])
        elif min(values) > 0 and max(values) >= 50 * min(values):
            panel.set_xscale("log")
        elif len(values) <= 8:
            panel.set_xticks(values)
        style.label(panel, title[0].upper() + title[1:], option, "fraction")
    if others:
        style.legend_below(figure, columns=2 if theme.narrow else 3)
    return figure
