"""Every combination of some options of a run."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pullpush.errors import UserError
from pullpush.reports import style
from pullpush.reports.curves import plot_line_with_band
from pullpush.studies.page import Section, Shown, how_obtained, write_page
from pullpush.studies.plan import StudyRun, numbers
from pullpush.studies.table import band, table_of, write_table
from pullpush.training.config import Config

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
    metrics = ["validation/map@r", "recall@1", "map@r", "seconds"]
    summary = table.groupby(options, sort=False)[metrics].mean().reset_index()
    summary = summary.sort_values("validation/map@r", ascending=False)
    write_table(summary, out / "summary.csv")
    shown = []
    for option in options:
        name = f"over-{option.replace('.', '-')}"
        picture = style.save(lambda theme, option=option: _draw_over(table, option, theme), out / f"{name}.png")
        others = " Other options are averaged over." if len(options) > 1 else ""
        shown.append(Shown(picture, f"{option}: mean over runs; the band is its 95% interval.{others}"))
    best = summary.iloc[0]
    setting = ", ".join(f"{option} {best[option]}" for option in options)
    page = out / "page.html"
    write_page(
        page,
        "Grid over " + " and ".join(options),
        f"Chosen on the validation classes (MAP@R {best['validation/map@r']:.3f}): {setting}; on the test classes it "
        f"has recall@1 {best['recall@1']:.3f} and MAP@R {best['map@r']:.3f}.",
        [
            Section("Settings, best on the validation classes first", table=summary),
            Section("Figures", figures=shown),
            Section("How the numbers were obtained", points=how_obtained(runs, out, failed)),
            Section("All runs", table=table),
        ],
    )
    return page


def _number(value: Any) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def _draw_over(table: pd.DataFrame, option: str, theme: style.Theme) -> Figure:
    """Metrics over one option: on a scale where its values are numbers, else side by side."""
    figure, axes = style.subplots(1, 1, width=5.6, height=3.8)
    for place, (metric, label) in enumerate({"recall@1": "test recall@1", "map@r": "test MAP@R"}.items()):
        found = band(table, option, metric)
        numeric = pd.api.types.is_numeric_dtype(found.index)
        x = found.index.to_numpy() if numeric else np.arange(len(found))
        plot_line_with_band(
            axes, x, found["mean"], found["low"], found["high"], label=label, color=theme.series[place],
            marker=style.MARKERS[place],
        )  # fmt: skip
        if not numeric:
            axes.set_xticks(x, [str(value) for value in found.index])
        elif x.min() > 0 and x.max() >= 50 * x.min():
            axes.set_xscale("log")
    style.label(axes, f"Test metrics over {option}", option, "fraction")
    axes.legend(loc="best")
    return figure
