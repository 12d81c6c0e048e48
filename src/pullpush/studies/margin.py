"""How much a loss depends on its margin."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pullpush.errors import UserError
from pullpush.maths import losses
from pullpush.reports import style
from pullpush.reports.curves import fitting_window, smooth
from pullpush.reports.page import Block, Page, Section, drawn
from pullpush.runs.config import Config
from pullpush.runs.reader import Curve
from pullpush.studies.obtained import how_obtained, margin_meaning
from pullpush.studies.page import tabled
from pullpush.studies.plan import StudyRun
from pullpush.studies.runner import folder_of, is_finished
from pullpush.studies.seeds import METRICS, by_seed, paired_section, plot_seeds
from pullpush.studies.spread import meaning, spread
from pullpush.studies.table import log_of, mean_curve, table_of, write_table

__all__ = ["check_margin", "draw_margin", "margin_runs"]


def check_margin(names: Sequence[str]) -> None:
    """Raises: UserError where a loss is unknown or has no option `margin`."""
    with_margin = [name for name, loss in losses.REGISTRY.items() if "margin" in loss().options]
    for name in names:
        if name not in with_margin:
            what = "has no option margin" if name in losses.REGISTRY else "is unknown"
            raise UserError(f"loss {name!r} {what}; losses with a margin: {', '.join(with_margin)}")


def margin_runs(configs: Sequence[Config]) -> list[StudyRun]:
    """A run a configuration, named by loss, margin and seed."""
    return [
        StudyRun(
            f"{c.loss.name}-margin-{c.loss.options['margin']:g}-seed-{c.seed}",
            c,
            {"loss": c.loss.name, "margin": c.loss.options["margin"], "seed": c.seed},
        )
        for c in configs
    ]


def draw_margin(runs: Sequence[StudyRun], out: Path, failed: Sequence[str] = (), window: int = 50) -> Path:
    """table.csv, margin.png, curves.png and page.html from what the finished runs left; nothing is trained.

    Returns:
        The page.
    """
    table = table_of(runs, out)
    write_table(table.drop(columns="validation/map@r"), out / "table.csv")
    first = {run.facts["loss"]: run.config for run in runs}
    chosen = [{"loss": loss, "margin": _chosen(part)} for loss, part in table.groupby("loss", sort=False)]
    repeats = table.groupby(["loss", "margin"]).size()
    caption = "Each margin has its point" if repeats.max() == 1 else f"Mean over seeds. {meaning(repeats)}"
    sections = [
        Section(
            "Test metrics over the margin",
            [
                drawn(partial(_draw_sensitivity, table), out / "margin.png", caption),
                Block(lines=[margin_meaning(config) for config in first.values()]),
            ],
        ),
        Section("Summary", [tabled(_summary(table))]),
        *paired_section(
            table, ["loss", "margin"], chosen, out, "the margin of its loss that the validation classes choose"
        ),
        *_curves(runs, out, window),
        Section(
            "How the numbers were obtained", [Block(lines=how_obtained(runs, out, failed, ("test", "seeds", "times")))]
        ),
        Section("All runs", [tabled(table)]),
    ]
    return Page("study", "Margin sensitivity", _sentence(table), sections).write(out / "page.html")


def _chosen(of_loss: pd.DataFrame) -> float:
    """The margin with the best MAP@R on the validation classes."""
    return float(of_loss.groupby("margin")["validation/map@r"].mean().idxmax())


def _curves(runs: Sequence[StudyRun], out: Path, window: int) -> list[Section]:
    """The section of the loss curves; none where no run has logged its loss."""
    logged = {run.name: log_of(run, out, "train/loss") for run in runs if is_finished(folder_of(out, run))}
    logged = {name: curve for name, curve in logged.items() if len(curve.steps)}
    if not logged:
        return []
    facts = pd.DataFrame([run.facts for run in runs if run.name in logged])
    means = ", mean over seeds" if facts["seed"].nunique() > 1 else ""
    averaged = fitting_window(max(len(curve.steps) for curve in logged.values()), window)
    smoothed = f": moving average of {averaged} steps over the faint raw values" if averaged > 1 else ""
    text = f"Training loss for each margin{means}{smoothed}. Compare the course of the curves; values differ in scale"
    several = "between losses and margins" if facts["loss"].nunique() > 1 else "between margins"
    draw = partial(_draw_curves, runs, logged, window)
    return [Section("Loss curves", [drawn(draw, out / "curves.png", f"{text} {several}.")])]


def _sentence(table: pd.DataFrame) -> str:
    """For each loss, where test recall@1 is lowest and highest, and what the validation classes choose."""
    parts = []
    for loss, of_loss in table.groupby("loss", sort=False):
        means = of_loss.groupby("margin")["recall@1"].mean()
        chosen = _chosen(of_loss)
        if len(means) == 1 or means.max() - means.min() < 0.0005:
            margins = ", ".join(f"{margin:g}" for margin in means.index)
            parts.append(f"{loss}: test recall@1 {means.iloc[0]:.3f} at margin {margins}")
            continue
        parts.append(
            f"{loss}: test recall@1 from {means.min():.3f} (margin {means.idxmin():g}) to {means.max():.3f} (margin "
            f"{means.idxmax():g}), a spread of {means.max() - means.min():.3f}; the validation classes choose margin "
            f"{chosen:g}, which has {means[chosen]:.3f}"
        )
    return ". ".join(parts) + "."


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for (loss, margin), part in table.groupby(["loss", "margin"], sort=False):
        shown = {title: spread(part[metric], 0, 1).formatted() for metric, title in METRICS.items()}
        rows.append(
            {
                "loss": loss,
                "margin": margin,
                "runs": len(part),
                **shown,
                "seconds a run": f"{part['seconds'].mean():.1f}",
            }
        )
    return pd.DataFrame(rows)


def _draw_sensitivity(table: pd.DataFrame, theme: style.Theme) -> Figure:
    figure, axes = style.panels(theme, 2, height=3.9)
    for panel, (metric, title) in zip(axes, METRICS.items(), strict=True):
        for place, (loss, part) in enumerate(table.groupby("loss", sort=False)):
            plot_seeds(
                panel,
                by_seed(part, "margin", metric),
                label=str(loss),
                most=1,
                color=theme.series[place % len(theme.series)],
                marker=style.MARKERS[place % len(style.MARKERS)],
            )
        style.label(panel, title[0].upper() + title[1:], "margin", "fraction")
    style.legend_below(figure, columns=5)
    return figure


def _draw_curves(runs: Sequence[StudyRun], logged: Mapping[str, Curve], window: int, theme: style.Theme) -> Figure:
    """A panel a loss, a line a margin, light to dark as the margin grows."""
    from matplotlib import colormaps

    names = list(dict.fromkeys(run.facts["loss"] for run in runs if run.name in logged))
    figure, axes = style.panels(theme, len(names), height=3.9)
    colors, margins = colormaps["viridis"], sorted({run.facts["margin"] for run in runs})
    low, high = (0.35, 1.0) if theme.name == "dark" else (0.05, 0.9)  # the ends that stand out from the paper
    for panel, name in zip(axes, names, strict=True):
        for place, margin in enumerate(margins):
            same = [run for run in runs if (run.facts["loss"], run.facts["margin"]) == (name, margin)]
            found = [logged[run.name] for run in same if run.name in logged]
            if not found:
                continue
            mean = mean_curve(found, f"{margin:g}")
            color = colors(low + (high - low) * place / max(1, len(margins) - 1))
            panel.plot(mean.steps, mean.values, color=color, alpha=0.15, linewidth=0.6)
            average = smooth(mean.values, fitting_window(len(mean.values), window))
            panel.plot(mean.steps, average, color=color, label=mean.label)
        style.label(panel, name, "step", "training loss")
    style.legend_below(figure, columns=5 if theme.narrow else 8, title="margin")
    return figure
