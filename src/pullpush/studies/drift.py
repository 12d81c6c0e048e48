"""Drift: how far the embeddings of the same items move in so many steps."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pullpush.errors import UserError
from pullpush.files.tables import read_csv
from pullpush.reports import style
from pullpush.reports.page import Section, drawn
from pullpush.runs.config import Config
from pullpush.studies.page import write_page
from pullpush.studies.plan import StudyRun, named
from pullpush.studies.runner import finished, folder_of
from pullpush.studies.seeds import by_seed, plot_seeds
from pullpush.studies.spread import meaning
from pullpush.studies.table import write_table

__all__ = ["SPANS", "Drift", "check_age", "draw_drift", "drift_of", "drift_runs", "suggested_start"]

SPANS = (10, 100, 1000)
PROBE = 256
# Points along the run at which the probe is embedded, at least every 10 steps.
EVERY = 10


class Drift:
    """Embeds a fixed probe of training items every 10 steps, and writes drift.csv after the last step.

    It is there before the run is finished: a run that is killed between the two is done again.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self._path = folder / "drift.csv"
        self._seen: list[NDArray[np.float32]] = []
        self._steps: list[int] = []

    def __call__(self, run: Any, step: int) -> None:
        if step % EVERY == 0:
            self._steps.append(step)
            self._seen.append(self._embed(run))
        if step == run.config.steps:
            write_table(drift_of(np.array(self._steps), self._seen), self._path)

    def close(self) -> None:
        """Steps of a run that is stopped are of no use."""

    def _embed(self, run: Any) -> NDArray[np.float32]:
        task, device = run.task, run.fabric.device
        train = task.first.entries("train")
        rows = np.sort(np.random.default_rng(0).permutation(len(train))[:PROBE])
        return np.asarray(task.first.embed(train[torch.from_numpy(rows)], device, "probe").numpy())


def drift_of(
    steps: NDArray[np.int64], embeddings: Sequence[NDArray[np.float32]], spans: Sequence[int] = SPANS
) -> pd.DataFrame:
    r"""Mean squared change of the same items' embeddings over `span` steps.

    $$D(t, \Delta) = \frac{1}{n} \sum_i \lVert f_t(x_i) - f_{t - \Delta}(x_i) \rVert^2$$

    Between unit vectors it is 0 for no change and 2 for unrelated directions.

    Args:
        steps: [k], ascending.
        embeddings: [k, n, dim], of the same items at these steps.
        spans: in steps; pairs of steps that were not seen are left out.

    Returns:
        Columns step (the later one), span, drift.

    Source: Wang et al., Cross-Batch Memory for Embedding Learning, CVPR 2020, eq. 2.
    """
    place = {int(step): i for i, step in enumerate(steps)}
    rows = [
        (step, span, float(((embeddings[i] - embeddings[place[step - span]]) ** 2).sum(-1).mean()))
        for span in spans
        for step, i in place.items()
        if step - span in place
    ]
    return pd.DataFrame(rows, columns=["step", "span", "drift"])


def suggested_start(drift: pd.DataFrame, age: int, tolerance: float) -> int | None:
    """The first step from which on no item drifts more than `tolerance` in `age` steps; None if there is no such step.

    A memory started there holds embeddings that are still about right.
    """
    means = drift[drift["span"] == age].groupby("step")["drift"].mean()
    above = means.index[means > tolerance]
    if means.empty or (len(above) and above[-1] == means.index[-1]):
        return None
    # An embedding kept at step s is `age` old at s + age.
    return int(above[-1]) + EVERY - age if len(above) else int(means.index[0]) - age


def check_age(age: int) -> None:
    """Raises: UserError for an age over which no drift is measured."""
    if age not in SPANS:
        raise UserError(f"--age {age}: drift is measured over {', '.join(map(str, SPANS))} steps; give one of these")


def drift_runs(configs: Sequence[Config]) -> list[StudyRun]:
    """A run a configuration, named by loss and seed; not resumed, since the probe is compared with earlier steps."""
    return [named(config, (Drift,), resumable=False) for config in configs]


def draw_drift(
    runs: Sequence[StudyRun], out: Path, failed: Sequence[str] = (), age: int = 100, tolerance: float = 0.1
) -> Path:
    """drift.csv, drift.png and page.html.

    Args:
        age: steps that an embedding stays in the memory, one of `SPANS`.
        tolerance: mean squared change that is taken as little.

    Returns:
        The page.
    """
    frames = []
    for run in finished(runs, out):
        folder = folder_of(out, run)
        cure = f"remove {folder}, and the same command trains that run again"
        frames.append(read_csv(folder / "drift.csv", ["step", "span", "drift"], cure=cure).assign(**run.facts))
    table = pd.concat(frames)
    write_table(table, out / "drift.csv")
    steps = {run.facts["loss"]: run.config.steps for run in runs}
    advice = [_advice(loss, table[table["loss"] == loss], n, age, tolerance) for loss, n in steps.items()]
    figure = [drawn(partial(_draw, table), out / "drift.png", _caption(table))] if len(table) else []
    sections = [Section("Drift along training", figure)]
    return write_page("Drift of embeddings", " ".join(advice), sections, runs, out, failed, ("seeds",))


def _caption(table: pd.DataFrame) -> str:
    repeats = table.groupby(["loss", "span", "step"]).size()
    seeds = f" Mean over seeds. {meaning(repeats)}" if repeats.max() > 1 else ""
    return (
        f"Mean squared change of the unit embeddings of at most {PROBE} fixed training items over so many steps (0: "
        f"none, 2: unrelated).{seeds}"
    )


def _advice(loss: str, drift: pd.DataFrame, steps: int, age: int, tolerance: float) -> str:
    """What the drift over `age` steps says of a memory that holds embeddings for so long, where it was measured."""
    measured = drift[drift["span"] == age]
    if measured.empty:
        return (
            f"{loss}: the drift over {age} steps was not measured: it takes runs of {age + EVERY} steps, and these "
            f"have {steps}."
        )
    start = suggested_start(drift, age, tolerance)
    if start is None:
        last = measured[measured["step"] == measured["step"].max()]["drift"].mean()
        return (
            f"{loss}: over the last {age} steps of the run the mean squared change of the embeddings is {last:.3g}, "
            f"more than {tolerance:g}: a memory of that age is stale to the end; take a smaller one."
        )
    return (
        f"{loss}: memory.start_step {start}, as from there on the mean squared change in {age} steps is at most "
        f"{tolerance:g}."
    )


def _draw(table: pd.DataFrame, theme: style.Theme) -> Figure:
    names = list(dict.fromkeys(table["loss"]))
    figure, axes = style.panels(theme, len(names), width=5.2, sharey=True)
    for panel, name in zip(axes, names, strict=True):
        of_loss = table[table["loss"] == name]
        for place, (span, part) in enumerate(of_loss.groupby("span")):
            color = theme.series[place]
            plot_seeds(panel, by_seed(part, "step", "drift"), label=f"over {span:,} steps", color=color, most=4)
        style.label(panel, name, "step", "mean squared change")
        panel.set_ylim(0, 1.05 * max(panel.get_ylim()[1], 1e-6))
    style.legend_below(figure)
    return figure
