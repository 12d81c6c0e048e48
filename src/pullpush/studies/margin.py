"""How much a loss depends on its margin."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from pullpush.errors import UserError
from pullpush.maths import losses
from pullpush.reports import style
from pullpush.reports.curves import averaged, plot_curves
from pullpush.reports.page import Block, Section, drawn
from pullpush.runs.config import Config
from pullpush.runs.reader import Curve
from pullpush.studies.obtained import margin_meaning
from pullpush.studies.page import tabled, write_page
from pullpush.studies.plan import StudyRun, named
from pullpush.studies.runner import finished
from pullpush.studies.seeds import draw_over, paired_section, summary
from pullpush.studies.spread import meaning
from pullpush.studies.table import curves_of, table_of, write_table

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
    return [named(config, margin=config.loss.options["margin"]) for config in configs]


def draw_margin(runs: Sequence[StudyRun], out: Path, failed: Sequence[str] = (), window: int = 50) -> Path:
    """table.csv, margin.png, curves.png and page.html from what the finished runs left; nothing is trained.

    Returns:
        The page.
    """
    table, settings = table_of(runs, out), ["loss", "margin"]
    write_table(table.drop(columns="validation/map@r"), out / "table.csv")
    first = {run.facts["loss"]: run.config for run in runs}
    chosen = [{"loss": loss, "margin": _chosen(part)} for loss, part in table.groupby("loss", sort=False)]
    by = table.groupby(settings, sort=False)
    caption = "Each margin has its point" if by.size().max() == 1 else f"Mean over seeds. {meaning(by.size())}"
    seconds = [f"{mean:.1f}" for mean in by["seconds"].mean()]
    sections = [
        Section(
            "Test metrics over the margin",
            [
                drawn(partial(draw_over, table, "margin", settings), out / "margin.png", caption),
                Block(lines=[margin_meaning(config) for config in first.values()]),
            ],
        ),
        Section("Summary", [tabled(summary(table, settings).assign(**{"seconds a run": seconds}))]),
        paired_section(table, settings, chosen, out, "the margin of its loss that the validation classes choose"),
        Section("Loss curves", _curves(finished(runs, out), out, window)),
    ]
    return write_page("Margin sensitivity", _sentence(table), sections, runs, out, failed, table=table)


def _chosen(of_loss: pd.DataFrame) -> float:
    """The margin with the best MAP@R on the validation classes."""
    return float(of_loss.groupby("margin")["validation/map@r"].mean().idxmax())


def _curves(runs: Sequence[StudyRun], out: Path, window: int) -> list[Block]:
    """The figure of the loss curves; none where no run has logged its loss."""
    settings = dict.fromkeys((run.facts["loss"], run.facts["margin"]) for run in runs)
    curves, seeds = {}, 1
    for loss, margin in settings:
        same = [run for run in runs if (run.facts["loss"], run.facts["margin"]) == (loss, margin)]
        values = curves_of(same, out, "train/loss")
        if len(values):
            mean = values.mean(axis=1)
            curves[loss, margin] = Curve(f"{margin:g}", mean.index.to_numpy(), mean.to_numpy())
            seeds = max(seeds, len(values.columns))
    if not curves:
        return []
    means = ", mean over seeds" if seeds > 1 else ""
    count = averaged(list(curves.values()), window)
    smoothed = f": moving average of {count} steps over the faint raw values" if count > 1 else ""
    text = f"Training loss for each margin{means}{smoothed}. Compare the course of the curves; values differ in scale"
    several = "between losses and margins" if len({loss for loss, _ in curves}) > 1 else "between margins"
    return [drawn(partial(_draw_curves, curves, window), out / "curves.png", f"{text} {several}.")]


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


def _draw_curves(curves: Mapping[tuple[str, float], Curve], window: int, theme: style.Theme) -> Figure:
    """A panel a loss, a line a margin, light to dark as the margin grows."""
    names = list(dict.fromkeys(loss for loss, _ in curves))
    margins = sorted({margin for _, margin in curves})
    figure, axes = style.panels(theme, len(names), height=3.9)
    ends = (0.35, 1.0) if theme.name == "dark" else (0.05, 0.9)  # the ends that stand out from the paper
    colors = dict(zip(margins, colormaps["viridis"](np.linspace(*ends, len(margins))), strict=True))
    for panel, name in zip(axes, names, strict=True):
        of_loss = {margin: curves[name, margin] for margin in margins if (name, margin) in curves}
        of_color = [colors[margin] for margin in of_loss]
        plot_curves(panel, list(of_loss.values()), theme, window=window, colors=of_color)
        style.label(panel, name, "step", "training loss")
    style.legend_below(figure, columns=5 if theme.narrow else 8, title="margin")
    return figure
