"""How much a loss depends on its margin."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pullpush.errors import UserError
from pullpush.maths import losses
from pullpush.reports import style
from pullpush.reports.curves import fitting_window, plot_line_with_band, smooth
from pullpush.studies.page import Section, Shown, how_obtained, margin_meaning, write_page
from pullpush.studies.plan import StudyRun
from pullpush.studies.table import band, log_of, mean_curve, table_of, write_table
from pullpush.training.config import Config

__all__ = ["check_margin", "draw_margin", "margin_runs"]

TITLES = {"recall@1": "Test recall@1", "map@r": "Test MAP@R"}


def check_margin(names: Sequence[str]) -> None:
    """Raises: UserError where a loss is unknown or has no option `margin`."""
    with_margin = [name for name, loss in losses.REGISTRY.items() if "margin" in signature(loss).parameters]
    for name in names:
        if name not in with_margin:
            what = "has no option margin" if name in losses.REGISTRY else "is unknown"
            raise UserError(f"loss {name!r} {what}; losses with a margin: {', '.join(with_margin)}")


def margin_runs(configs: Sequence[Config]) -> list[StudyRun]:
    """A run a configuration, named by loss, margin and seed."""
    return [
        StudyRun(
            f"{c.loss['name']}-margin-{c.loss['margin']:g}-seed-{c.seed}",
            c,
            {"loss": c.loss["name"], "margin": c.loss["margin"], "seed": c.seed},
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
    sensitivity = style.save(lambda theme: _draw_sensitivity(table, theme), out / "margin.png")
    curves = style.save(lambda theme: _draw_curves(runs, out, window, theme), out / "curves.png")
    first = {run.facts["loss"]: run.config for run in runs}
    page = out / "page.html"
    write_page(
        page,
        "Margin sensitivity",
        _sentence(table),
        [
            Section(
                "Test metrics over the margin",
                figures=[Shown(sensitivity, "Mean over seeds, on classes never trained on; bands are 95% intervals.")],
                points=[margin_meaning(config) for config in first.values()],
            ),
            Section("Summary", table=_summary(table)),
            Section(
                "Loss curves",
                figures=[
                    Shown(
                        curves,
                        f"Training loss for each margin, mean over seeds, moving average of up to {window} steps over "
                        "the faint raw values. Compare the course of the curves; values differ in scale between losses "
                        "and margins.",
                    )
                ],
            ),
            Section("How the numbers were obtained", points=how_obtained(runs, out, failed)),
            Section("All runs", table=table),
        ],
    )
    return page


def _sentence(table: pd.DataFrame) -> str:
    parts = []
    for loss, of_loss in table.groupby("loss", sort=False):
        means = of_loss.groupby("margin")["recall@1"].mean()
        chosen = of_loss.groupby("margin")["validation/map@r"].mean().idxmax()
        parts.append(
            f"{loss}: test recall@1 from {means.min():.3f} (margin {means.idxmin():g}) to {means.max():.3f} (margin "
            f"{means.idxmax():g}), a spread of {means.max() - means.min():.3f}; the validation classes choose margin "
            f"{chosen:g}, which has {means[chosen]:.3f}"
        )
    return ". ".join(parts) + "."


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for (loss, margin), part in table.groupby(["loss", "margin"], sort=False):
        shown = {}
        for metric in TITLES:
            mean, low, high = band(part, "margin", metric).iloc[0]
            shown[metric] = f"{mean:.3f}" + (f" ({low:.3f} to {high:.3f})" if len(part) > 1 else "")
        rows.append(
            {"loss": loss, "margin": margin, "runs": len(part), **shown, "seconds a run": part["seconds"].mean()}
        )
    return pd.DataFrame(rows)


def _draw_sensitivity(table: pd.DataFrame, theme: style.Theme) -> Figure:
    figure, axes = style.subplots(1, 2, width=9.6, height=3.8)
    for panel, (metric, title) in zip(axes, TITLES.items(), strict=True):
        for place, (loss, part) in enumerate(table.groupby("loss", sort=False)):
            found = band(part, "margin", metric)
            plot_line_with_band(
                panel, found.index.to_numpy(), found["mean"], found["low"], found["high"], label=str(loss),
                color=theme.series[place % len(theme.series)], marker=style.MARKERS[place % len(style.MARKERS)],
            )  # fmt: skip
        style.label(panel, title, "margin", "fraction")
    axes[0].legend(loc="best")
    return figure


def _draw_curves(runs: Sequence[StudyRun], out: Path, window: int, theme: style.Theme) -> Figure:
    """A panel a loss, a line a margin, light to dark as the margin grows."""
    from matplotlib import colormaps

    names = list(dict.fromkeys(run.facts["loss"] for run in runs))
    figure, axes = style.subplots(1, len(names), width=4.8 * max(2, len(names)), height=3.8, squeeze=False)
    colors = colormaps["viridis"]
    for panel, name in zip(axes[0], names, strict=True):
        margins = sorted({run.facts["margin"] for run in runs if run.facts["loss"] == name})
        for place, margin in enumerate(margins):
            same = [run for run in runs if (run.facts["loss"], run.facts["margin"]) == (name, margin)]
            logged = [curve for run in same if len((curve := log_of(run, out, "train/loss")).steps)]
            if not logged:
                continue
            mean = mean_curve(logged, f"{margin:g}")
            color = colors(0.05 + 0.85 * place / max(1, len(margins) - 1))
            panel.plot(mean.steps, mean.values, color=color, alpha=0.15, linewidth=0.6)
            average = smooth(mean.values, fitting_window(len(mean.values), window))
            panel.plot(mean.steps, average, color=color, label=mean.label)
        style.label(panel, name, "step", "training loss")
        panel.legend(title="margin", loc="upper right")
    return figure
