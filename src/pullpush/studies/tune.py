"""The search for options: chosen on validation classes, kept on disk, continued at any time."""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pullpush.errors import UserError
from pullpush.files import damaged, regular, unwritable, write_bytes
from pullpush.reports import style
from pullpush.reports.page import Section, drawn
from pullpush.runs.config import Config, write_config
from pullpush.studies.page import write_page
from pullpush.studies.plan import StudyRun
from pullpush.studies.runner import check_same, folder_of, hold_study, is_finished, run_one
from pullpush.studies.table import table_of, write_table

if TYPE_CHECKING:
    import optuna

__all__ = ["Range", "draw_tune", "ranges_of", "tune"]

STUDY = "pullpush"
# The options of a trial follow from the seed and the trials before it: they are chosen again as they were.
CURE = "remove it, and the same command makes it again from the runs that are there"


@dataclass(frozen=True)
class Range:
    """Values of an option from low to high, on a logarithmic scale or not."""

    option: str
    low: float
    high: float
    log: bool


def ranges_of(over: str) -> list[Range]:
    """`optimizer.lr=1e-4:1e-2:log loss.margin=0.1:0.8` as ranges.

    Raises:
        UserError: anything else.
    """
    ranges = []
    for word in over.split():
        option, _, text = word.removeprefix("--").partition("=")
        low, *rest = text.split(":")
        try:
            one = Range(option, float(low), float(rest[0]), rest[1:] == ["log"])
        except (ValueError, IndexError):
            raise UserError(
                f"--over {word!r} is no OPTION=LOW:HIGH or OPTION=LOW:HIGH:log: give for instance "
                "optimizer.lr=1e-4:1e-2:log"
            ) from None
        if one.low >= one.high or (one.log and one.low <= 0) or rest[1:] not in ([], ["log"]):
            raise UserError(f"--over {word!r}: LOW must be below HIGH, and above 0 on a logarithmic scale")
        ranges.append(one)
    if not ranges:
        raise UserError("--over is empty: give for instance optimizer.lr=1e-4:1e-2:log loss.margin=0.1:0.8")
    return ranges


def tune(
    make: Callable[[dict[str, float]], Config], ranges: Sequence[Range], out: Path, trials: int, seed: int = 0
) -> list[StudyRun]:
    """Runs until `trials` are done, those of earlier calls included.

    The value of a trial is the best MAP@R on the validation classes. Trials are chosen by the tree-structured Parzen
    estimator from the seed and what is known so far, so a search that was killed ends as it would have otherwise.

    Args:
        make: options to a configuration.
        out: folder; the storage is out/tune.db.

    Returns:
        The finished runs.

    Raises:
        UserError: optuna is not installed; another process searches there; tune.db is damaged; what a run raises.
        Stopped: Ctrl-C or SIGTERM; the run is saved, and goes on with the next call.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    states = optuna.trial.TrialState
    path = out / "tune.db"
    with hold_study(out):
        with _clear(path):
            study = _open(path)
            unfinished = study.get_trials(states=(states.RUNNING,))
        done = len(study.get_trials(deepcopy=False, states=(states.COMPLETE,)))
        while done < trials:
            with _clear(path):
                # A killed trial stays as running, with the options that were chosen for it so far.
                trial = optuna.trial.Trial(study, unfinished.pop(0)._trial_id) if unfinished else study.ask()
                values = _choose(study, trial, ranges, seed + done * len(ranges))
            name = _name_of(trial)
            run = StudyRun(name, make(values), values)
            check_same(run, folder_of(out, run))
            if not is_finished(folder_of(out, run)):
                run_one(run, out)
            value = float(table_of([run], out)["validation/map@r"].iloc[0])
            with _clear(path):
                study.tell(trial, value)
            done += 1
            print(f"{done}/{trials} {name}: validation map@r {value:.4f}  " + _said(values))
        complete = study.get_trials(states=(states.COMPLETE,))
    return [StudyRun(_name_of(trial), make(trial.params), trial.params) for trial in complete]


def _open(path: Path) -> "optuna.Study":
    """The search in `path`, which is made whole or not at all; an empty file is what a killed search may have left.

    Raises:
        UserError: the file is damaged.
    """
    import optuna

    if not path.exists() or not regular(path, CURE).stat().st_size:
        with tempfile.TemporaryDirectory() as folder:
            new = Path(folder) / path.name
            optuna.create_study(storage=f"sqlite:///{new}", study_name=STUDY, direction="maximize")
            write_bytes(path, new.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        wrong = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
    if wrong:
        raise damaged(path, wrong[0], CURE)
    try:
        return optuna.load_study(storage=f"sqlite:///{path.resolve()}", study_name=STUDY)
    except (KeyError, RuntimeError) as error:  # no such search in it; tables of another version
        raise damaged(path, f"it holds no search of pullpush ({error})", CURE) from error


@contextmanager
def _clear(path: Path) -> Iterator[None]:
    """Errors of the storage, as what to do about it."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (sqlite3.Error, SQLAlchemyError, StorageInternalError) as error:
        text = f"{error} {error.__cause__}"
        if any(sign in text for sign in ("is full", "readonly", "unable to open", "disk I/O")):
            raise unwritable(path, error, "then give the same command again") from error
        raise damaged(path, error, CURE) from error


def _choose(study: "optuna.Study", trial: "optuna.Trial", ranges: Sequence[Range], seed: int) -> dict[str, float]:
    """The options of a trial, each drawn from its own seed: after a kill between two, the second is as it would be."""
    from optuna.samplers import TPESampler

    values = {}
    for place, one in enumerate(ranges):
        study.sampler = TPESampler(seed=seed + place)
        values[one.option] = trial.suggest_float(one.option, one.low, one.high, log=one.log)
    return values


def _name_of(trial: Any) -> str:
    """Of its run's folder; searches of earlier versions gave the name on to a second trial."""
    return str(trial.user_attrs.get("name", f"trial-{trial.number}"))


def _said(values: dict[str, Any]) -> str:
    return "  ".join(f"{option} {value:.4g}" for option, value in values.items())


def draw_tune(runs: Sequence[StudyRun], out: Path) -> Path:
    """table.csv, best.yaml, tune.png and page.html. Only the chosen run's test metrics are shown.

    Returns:
        The page.
    """
    table = table_of(runs, out)
    place = int(table["validation/map@r"].to_numpy().argmax())
    best, chosen = table.iloc[place], runs[place]
    shown = table.drop(columns=["recall@1", "map@r"])
    write_table(shown, out / "table.csv")
    write_config(chosen.config, out / "best.yaml")
    figure = drawn(
        partial(_draw, table, list(chosen.facts)), out / "tune.png", "A point a run; the chosen one is ringed."
    )
    lead = (
        f"Of {len(runs)} runs, {chosen.name} is the best on the validation classes (MAP@R "
        f"{best['validation/map@r']:.3f}): {_said(dict(chosen.facts))}. On the test classes it has recall@1 "
        f"{best['recall@1']:.3f} and MAP@R {best['map@r']:.3f}. best.yaml repeats it with pullpush train --config."
    )
    sections = [Section("Validation over each option", [figure])]
    ranked = shown.sort_values("validation/map@r", ascending=False)
    return write_page("Search for options", lead, sections, runs, out, shows=("test", "times"), table=ranked)


def _draw(table: pd.DataFrame, options: Sequence[str], theme: style.Theme) -> Figure:
    figure, axes = style.panels(theme, len(options), width=4.4, height=3.6)
    score = table["validation/map@r"].to_numpy()
    best = int(score.argmax())
    for panel, option in zip(axes, options, strict=True):
        x = table[option].to_numpy(np.float64)
        panel.scatter(x, score, s=24, color=theme.series[0], linewidths=0)
        panel.scatter(x[best], score[best], s=110, facecolors="none", edgecolors=theme.series[1], linewidths=1.8)
        if x.min() > 0 and x.max() >= 20 * x.min():
            panel.set_xscale("log")
        style.label(panel, option, option, "validation MAP@R")
    return figure
