"""From finished runs to tables: a row a run, and logged curves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pullpush.files import Fields, check_fields, write_text
from pullpush.runs.reader import Curve, RunFolder, or_else
from pullpush.studies.plan import StudyRun
from pullpush.studies.runner import finished, folder_of, is_finished

__all__ = ["curves_of", "log_of", "stored", "table_of", "within_seeds", "write_table"]

METRICS = ("recall@1", "map@r")
METRICS_JSON: Fields = {"test": {"after": {}}, "validation": {}, "steps": int, "seconds": float}


def table_of(runs: Sequence[StudyRun], out: Path) -> pd.DataFrame:
    """A row a finished run: its facts, steps, test metrics after training, seconds."""
    rows = []
    for run in finished(runs, out):
        folder = folder_of(out, run)
        cure = "remove it, and the same command ends that run again"
        measured = RunFolder(folder, cure).metrics
        check_fields(measured, METRICS_JSON, folder / "metrics.json", cure)
        test, validation = measured["test"]["after"], measured["validation"]
        row = {**run.facts, "steps": measured["steps"], **{name: test.get(name) for name in METRICS}}
        rows.append({**row, "seconds": measured["seconds"], "validation/map@r": validation.get("map@r")})
    return pd.DataFrame(rows)


def stored(run: StudyRun, out: Path) -> RunFolder:
    """The folder of a run; of a finished one, what is damaged is an error."""
    folder = folder_of(out, run)
    return RunFolder(folder, f"remove {folder}, and the same command trains that run again" * is_finished(folder))


def write_table(table: pd.DataFrame, path: Path) -> None:
    """CSV, written whole or not at all."""
    write_text(path, table.to_csv(index=False))


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
    """What the run logged under `key`, over steps; empty where it logged nothing.

    Raises:
        UserError: the log of a finished run is damaged.
    """
    return or_else(lambda: stored(run, out).curve(key, label), Curve(label or key, np.empty(0), np.empty(0)))


def curves_of(runs: Sequence[StudyRun], out: Path, key: str) -> pd.DataFrame:
    """What the runs logged under `key`: a column a run that logged it, a row a step that all of these have."""
    curves = {run.name: log_of(run, out, key) for run in runs}
    logged = [pd.Series(curve.values, curve.steps, name=name) for name, curve in curves.items() if len(curve.steps)]
    return pd.concat(logged, axis=1, join="inner").sort_index() if logged else pd.DataFrame()
