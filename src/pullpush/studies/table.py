"""From finished runs to tables: a row a run, means with intervals over seeds, logged curves."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pullpush.reports.curves import Curve
from pullpush.reports.style import write_atomically
from pullpush.studies.plan import StudyRun
from pullpush.studies.runner import folder_of, is_finished
from pullpush.training.log import read_log

__all__ = ["band", "interval", "log_of", "mean_curve", "table_of", "within_seeds", "write_table"]

METRICS = ("recall@1", "map@r")


def table_of(runs: Sequence[StudyRun], out: Path) -> pd.DataFrame:
    """A row a finished run: its facts, steps, test metrics after training, seconds."""
    rows = []
    for run in runs:
        folder = folder_of(out, run)
        if not is_finished(folder):
            continue
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        test, validation = found["test"]["after"], found["validation"]
        row = {**run.facts, "steps": found["steps"], **{name: test.get(name) for name in METRICS}}
        rows.append({**row, "seconds": found["seconds"], "validation/map@r": validation.get("map@r")})
    return pd.DataFrame(rows)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """CSV, written whole or not at all."""
    write_atomically(path, table.to_csv(index=False).encode())


def interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95% confidence interval over repeats, by Student's t: (mean, low, high).

        mean ± t(0.975, n - 1) s / sqrt(n)

    With one repeat both ends are the value itself: there is no interval.
    """
    from scipy.stats import t

    values = np.asarray(values, dtype=np.float64)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return mean, mean, mean
    half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def band(table: pd.DataFrame, over: str, metric: str) -> pd.DataFrame:
    """Columns mean, low, high of a fraction over seeds, a row a value of `over`, ascending; ends within 0 and 1."""
    rows = {value: interval(part[metric].to_numpy()) for value, part in table.groupby(over)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high"]).clip(0, 1)


def within_seeds(table: pd.DataFrame, settings: Sequence[str], metric: str) -> pd.DataFrame:
    """The table with what each seed adds to all settings taken out of the metric, for bands that compare settings.

        y'[seed, setting] = m + (y[seed, setting] - m - mean over settings (y[seed, .] - m)) sqrt(M / (M - 1))

    m: mean of the setting over seeds; M settings (Cousineau 2005, with Morey's correction of 2008). Means stay.
    """
    means = table.groupby(list(settings))[metric].transform("mean")
    seeds = (table[metric] - means).groupby(table["seed"]).transform("mean")
    many = len(table[list(settings)].drop_duplicates())
    factor = np.sqrt(many / (many - 1)) if many > 1 else 1.0
    return table.assign(**{metric: means + factor * (table[metric] - means - seeds)})


def log_of(run: StudyRun, out: Path, key: str, label: str = "") -> Curve:
    """What the run logged under `key`, over steps; empty where it logged nothing."""
    lines = [line for line in read_log(folder_of(out, run) / "log.jsonl") if key in line]
    steps = np.array([line["step"] for line in lines], dtype=np.float64)
    return Curve(label or key, steps, np.array([line[key] for line in lines], dtype=np.float64))


def mean_curve(curves: Sequence[Curve], label: str) -> Curve:
    """The mean of curves over the steps that all of them have."""
    steps = sorted(set.intersection(*(set(curve.steps.tolist()) for curve in curves)))
    values = [curve.values[np.isin(curve.steps, steps)] for curve in curves]
    return Curve(label, np.array(steps), np.mean(values, axis=0))
