"""Repeats over seeds: their table and figures, and those of paired differences."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from pullpush.reports import style
from pullpush.reports.curves import plot_line_with_band
from pullpush.reports.page import Block, Section, drawn
from pullpush.studies.page import tabled
from pullpush.studies.spread import Spread, differences, spread, where
from pullpush.studies.table import write_table

__all__ = [
    "METRICS",
    "Difference",
    "by_seed",
    "differences_of",
    "draw_over",
    "figure_of_differences",
    "paired_section",
    "plot_seeds",
    "summary",
]

METRICS = {"recall@1": "test recall@1", "map@r": "test MAP@R"}


def by_seed(table: pd.DataFrame, over: str, metric: str) -> pd.DataFrame:
    """A row a value of `over`, ascending, a column a seed."""
    return table.pivot_table(index=over, columns="seed", values=metric)


def summary(table: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """A row a setting, with the number of its runs and the spread of the test metrics over seeds."""
    return pd.DataFrame(
        {
            **dict(zip(settings, key, strict=True)),
            "runs": len(part),
            **{title: spread(part[metric], 0, 1).formatted() for metric, title in METRICS.items()},
        }
        for key, part in table.groupby(list(settings), sort=False)
    )


def plot_seeds(
    axes: Axes,
    values: pd.DataFrame,
    *,
    label: str,
    color: str,
    marker: str = "",
    x: ArrayLike | None = None,
    most: float = np.inf,
) -> None:
    """The mean over seeds: with its interval as a band where each point has enough seeds, else with a line a seed.

    Args:
        values: a row a point, a column a seed; NaN where a seed has none.
        x: instead of the index of `values`.
        most: what no value can pass, 1 for fractions.
    """
    place = np.asarray(values.index if x is None else x)
    spreads = [spread(row, 0, most) for row in values.to_numpy()]
    mean, low, high = np.array([each[:3] for each in spreads]).T
    if all(each.is_interval for each in spreads):
        plot_line_with_band(axes, place, mean, low, high, label=label, color=color, marker=marker)
        return
    if values.shape[1] > 1:
        axes.plot(place, values.to_numpy(), color=color, alpha=0.35, linewidth=0.8, marker=marker, markersize=3)
    axes.plot(place, mean, color=color, marker=marker, markersize=4.5, label=label)


def draw_over(table: pd.DataFrame, option: str, options: Sequence[str], theme: style.Theme) -> Figure:
    """Test metrics over one of the options, a line for each setting of the others: on a scale where it has numbers."""
    others = [name for name in options if name != option]
    figure, axes = style.panels(theme, 2, height=3.9)
    values = sorted(table[option].unique(), key=lambda v: (isinstance(v, str), v))
    numeric = pd.api.types.is_numeric_dtype(table[option])
    settings = list(table.groupby(others, sort=False)) if others else [((), table)]
    for panel, (metric, title) in zip(axes, METRICS.items(), strict=True):
        for place, (key, part) in enumerate(settings):
            by = by_seed(part, option, metric)
            setting = where(dict(zip(others, key, strict=True)))
            x = by.index if numeric else [values.index(v) for v in by.index]
            plot_seeds(panel, by, label=setting or title, most=1, x=x, **theme.look(place))
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


@dataclass(frozen=True)
class Difference:
    """One setting less another, in words, and the spread of that over seeds by metric."""

    name: str
    of: Mapping[str, Spread]


def differences_of(
    table: pd.DataFrame, settings: Sequence[str], baselines: Sequence[Mapping[str, object]]
) -> list[Difference]:
    """Every setting less its baseline (of the same loss, where there are several), with two seeds or more."""
    repeated = []
    for baseline in baselines:
        part = table[table["loss"] == baseline["loss"]] if len(baselines) > 1 else table
        by_metric = [differences(part, settings, baseline, metric) for metric in METRICS]
        for pairs in zip(*by_metric, strict=True):
            name = f"{where(pairs[0][0])} less {where(baseline)}"
            one = Difference(name, dict(zip(METRICS, (spread for _, spread in pairs), strict=True)))
            if len(one.of["recall@1"].runs) > 1:
                repeated.append(one)
    return repeated


def paired_section(
    table: pd.DataFrame,
    settings: Sequence[str],
    baselines: Sequence[Mapping[str, object]],
    out: Path,
    what: str,
) -> Section:
    """Differences to a setting, paired by seed, as a figure and a table (difference.csv); empty with one seed.

    Args:
        table: a row a run: `settings`, seed and the metrics.
        baselines: what the others are compared with: one, or one a loss.
        what: what the baseline is, for the text: "the loss that ...".
    """
    title, shown = "Differences, paired by seed", differences_of(table, settings, baselines)
    if not shown:
        return Section(title, [])
    rows = [(each.name, metric, len(one.runs), *one[:3]) for each in shown for metric, one in each.of.items()]
    columns = ["difference", "metric", "seeds", "mean", "low", "high"]
    write_table(pd.DataFrame(rows, columns=columns), out / "difference.csv")
    text = f"Each less {what}, seed by seed: what a seed adds to all its runs, such as easy classes, is in none."
    rows_of_text = tabled(pd.DataFrame([_row(each) for each in shown]))
    return Section(title, [Block(text=[text]), figure_of_differences(shown, out), rows_of_text])


def _row(one: Difference) -> dict[str, str]:
    runs = one.of["recall@1"].runs
    return {
        "difference": one.name,
        **{title: one.of[metric].formatted("+.3f") for metric, title in METRICS.items()},
        "recall@1 is higher in": f"{sum(run > 0 for run in runs)} of {len(runs)} seeds",
    }


def figure_of_differences(differences: Sequence[Difference], out: Path) -> Block:
    """The figure of differences, difference.png, with what its dots and lines are."""
    kinds = {one.is_interval for each in differences for one in each.of.values()}
    line = {True: "is the 95% interval of the mean", False: "spans the seeds"}
    said = line[kinds.pop()] if len(kinds) == 1 else "is the 95% interval from four seeds on, else it spans the seeds"
    caption = f"A small dot is a seed, the large one their mean; the line {said}. Left of 0 it is less."
    return drawn(partial(_draw_differences, differences), out / "difference.png", caption)


def _draw_differences(differences: Sequence[Difference], theme: style.Theme) -> Figure:
    """A panel a metric, a row a difference, and the line of no difference."""
    metrics, height = list(differences[0].of), 1.4 + 0.34 * len(differences)
    if theme.narrow:
        figure, axes = style.panels(theme, len(metrics), width=4.8, height=height)
    else:
        figure, axes = style.panels(theme, len(metrics), width=2.4 / len(metrics) + 3.6, height=height, sharey=True)
    names = [textwrap.fill(one.name, 22) if theme.narrow else one.name for one in differences]
    for panel, metric in zip(axes, metrics, strict=True):
        panel.axvline(0, color=theme.muted, linewidth=1)
        for row, each in enumerate(differences):
            one, color = each.of[metric], theme.series[0]
            panel.plot([one.low, one.high], [row, row], color=color, alpha=0.45, linewidth=1.4)
            panel.plot(one.runs, [row] * len(one.runs), "o", color=color, markersize=4, mew=0)
            panel.plot(one.mean, row, "o", color=color, markersize=8.5)
        style.label(panel, f"Difference of {METRICS[metric]}", "difference within a seed", "")
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.grid(axis="y", visible=False)
    return figure
