"""The search for options: chosen on validation classes, kept on disk, continued at any time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pullpush.errors import UserError
from pullpush.reports import style
from pullpush.studies.obtained import how_obtained
from pullpush.studies.page import Section, Shown, write_page
from pullpush.studies.plan import StudyRun
from pullpush.studies.runner import is_finished, run_one
from pullpush.studies.table import table_of, write_table
from pullpush.training.config import Config, write_config

__all__ = ["Range", "draw_tune", "ranges_of", "tune"]


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
    found = []
    for word in over.split():
        option, _, text = word.removeprefix("--").partition("=")
        low, *rest = text.split(":")
        try:
            one = Range(option, float(low), float(rest[0]), rest[1:] == ["log"])
        except (ValueError, IndexError):
            raise UserError(f"--over {word!r} is no OPTION=LOW:HIGH or OPTION=LOW:HIGH:log") from None
        if one.low >= one.high or (one.log and one.low <= 0) or rest[1:] not in ([], ["log"]):
            raise UserError(f"--over {word!r}: LOW must be below HIGH, and above 0 on a logarithmic scale")
        found.append(one)
    if not found:
        raise UserError("--over is empty: give for instance optimizer.lr=1e-4:1e-2:log loss.margin=0.1:0.8")
    return found


def tune(
    make: Callable[[dict[str, float]], Config], ranges: Sequence[Range], out: Path, trials: int, seed: int = 0
) -> list[StudyRun]:
    """Runs until `trials` are done, those of earlier calls included.

    The value of a trial is the best MAP@R on the validation classes. Trials are chosen by the tree-structured Parzen
    estimator from the seed and what is known so far.

    Args:
        make: options to a configuration.
        out: folder; the storage is out/tune.db.

    Returns:
        The finished runs.

    Raises:
        UserError: optuna is not installed; what a run raises.
        Stopped: Ctrl-C or SIGTERM; the run is saved, and goes on with the next call.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("tune needs optuna: pip install 'pullpush[study]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    states = optuna.trial.TrialState
    study = optuna.create_study(
        storage=f"sqlite:///{(out / 'tune.db').resolve()}",
        study_name="pullpush",
        direction="maximize",
        load_if_exists=True,
    )
    # A killed trial stays as running: its options are given to a new one, which finds the run folder by its name.
    for trial in study.get_trials(states=(states.RUNNING,)):
        study.enqueue_trial(trial.params, user_attrs={"name": trial.user_attrs.get("name", f"trial-{trial.number}")})
        study.tell(trial.number, state=states.FAIL)
    while (done := len(study.get_trials(states=(states.COMPLETE,)))) < trials:
        study.sampler = optuna.samplers.TPESampler(seed=seed + done)
        trial = study.ask()
        values = {r.option: trial.suggest_float(r.option, r.low, r.high, log=r.log) for r in ranges}
        name = trial.user_attrs.get("name", f"trial-{trial.number}")
        trial.set_user_attr("name", name)
        run = StudyRun(name, make(values), values)
        if not is_finished(out / "runs" / name):
            run_one(run, out)
        value = float(table_of([run], out)["validation/map@r"].iloc[0])
        study.tell(trial, value)
        print(f"{done + 1}/{trials} {name}: validation map@r {value:.4f}  " + _said(values))
    return [
        StudyRun(trial.user_attrs["name"], make(trial.params), trial.params)
        for trial in study.get_trials(states=(states.COMPLETE,))
    ]


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
    options = list(chosen.facts)
    picture = style.save(lambda theme: _draw(table, options, theme), out / "tune.png")
    page = out / "page.html"
    write_page(
        page,
        "Search for options",
        f"Of {len(runs)} runs, {chosen.name} is the best on the validation classes (MAP@R "
        f"{best['validation/map@r']:.3f}): {_said(dict(chosen.facts))}. On the test classes it has recall@1 "
        f"{best['recall@1']:.3f} and MAP@R {best['map@r']:.3f}. best.yaml repeats it with pullpush train --config.",
        [
            Section(
                "Validation over each option", figures=[Shown(picture, "A point a run; the chosen one is ringed.")]
            ),
            Section("How the numbers were obtained", points=how_obtained(runs, out, [], ("test", "times"))),
            Section("All runs", table=shown.sort_values("validation/map@r", ascending=False)),
        ],
    )
    return page


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
