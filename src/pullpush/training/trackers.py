"""Where numbers go beside log.jsonl: TensorBoard, and each tracker that a run names, by Fabric's loggers."""

from __future__ import annotations

import importlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from pullpush.errors import UserError
from pullpush.extras import EXTRAS, need
from pullpush.files import unwritable
from pullpush.runs.log import go_on
from pullpush.signatures import of
from pullpush.training.callbacks import Callback

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["TRACKERS", "Trackers", "TrackioLogger", "tracker"]

# What people type, and the class that it stands for; any other class is named in full.
TRACKERS = {
    "csv": "lightning_fabric.loggers.CSVLogger",
    "comet": "pytorch_lightning.loggers.CometLogger",
    "mlflow": "pytorch_lightning.loggers.MLFlowLogger",
    "trackio": "pullpush.training.trackers.TrackioLogger",
    "wandb": "pytorch_lightning.loggers.WandbLogger",
}


def _mlflow(run: Run) -> dict[str, Any]:
    """One store for the runs of a folder, unless MLFLOW_TRACKING_URI names another; a run that goes on stays one."""
    from mlflow import MlflowClient

    warnings.filterwarnings("ignore", "MLFlow only allows")  # @ in names, said once a metric
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.folder.resolve().parent / 'mlflow.db'}"
    own: dict[str, Any] = {"experiment_name": "pullpush", "run_name": run.folder.name, "tracking_uri": uri}
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pullpush")
    if experiment is None:
        return own
    name = run.folder.name.replace("'", "")
    begun = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'", max_results=1)
    return own | ({"run_id": begun[0].info.run_id} if begun and run.step else {})


class TrackioLogger(Logger):
    """Numbers and configuration of a run, for trackio's pages.

    Where they go, here or to a Space, is for trackio's own environment variables to say, as for any other program that
    uses it: `trackio show --project pullpush` opens them.

    Args:
        run: goes on under its name where it has begun; else it is a new run, beside one of its name.
    """

    name, version = "trackio", 0

    def __init__(self, run: Run) -> None:
        self.run, self.begun = run.folder.name, run.step > 0
        self.tracked: Any = None

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        import trackio

        with redirect_stdout(io.StringIO()):  # what it says of itself would tear the progress bar
            self.tracked = trackio.init("pullpush", self.run, config=params, resume="allow" if self.begun else "never")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.tracked.log(metrics, step=step)

    def finalize(self, status: str) -> None:
        with redirect_stdout(io.StringIO()):
            self.tracked.finish()


OPTIONS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "mlflow": _mlflow,
    "trackio": lambda run: {"run": run},
    "wandb": lambda run: {"project": "pullpush", "name": run.folder.name},
}
"""What trackers are given beside the folder, where their own defaults would mix up runs."""


class Trackers(Callback):
    """Hands numbers to Fabric's loggers.

    Args:
        names: of trackers, as the configuration names them.
        loggers: of the caller, beside these.
        tensorboard: write TensorBoard's logs too.

    Raises:
        UserError: see `tracker`.
    """

    def __init__(self, names: Sequence[str] = (), loggers: Sequence[Logger] = (), tensorboard: bool = False) -> None:
        self.kinds = {name: tracker(name) for name in names}
        self.loggers, self.tensorboard = list(loggers), tensorboard

    def on_setup(self, run: Run) -> None:
        """Makes the trackers; those that write files write into the run folder."""
        with _loggers_kept():
            run.fabric.loggers[:] = self._made(run)  # instead of those of a run that is begun again

    def _made(self, run: Run) -> list[Logger]:
        places = {"root_dir": str(run.folder), "save_dir": str(run.folder)}
        loggers = list(self.loggers)
        for name, kind in self.kinds.items():
            own = {place: folder for place, folder in places.items() if place in of(kind).options}
            loggers.append(kind(**own, **(OPTIONS[name](run) if name in OPTIONS else {})))
        for logger in loggers:
            with suppress(NotImplementedError):  # csv has no place for them
                logger.log_hyperparams(run.config.values())
        if self.tensorboard:
            loggers.append(TensorBoardLogger(run.folder, "tensorboard", "", purge_step=run.step + 1))
        return loggers

    def on_log(self, run: Run, step: int, numbers: Mapping[str, float]) -> None:
        with _on_the_disk(run):
            run.fabric.log_dict(numbers, step)

    def on_train_end(self, run: Run) -> None:
        with _on_the_disk(run):
            for logger in run.fabric.loggers:
                logger.finalize("success" if run.step == run.config.steps else "failed")


def tracker(name: str) -> type[Logger]:
    """The class of a tracker.

    Args:
        name: one of `TRACKERS`, or the full name of a class of Fabric's `Logger` (`package.module.Class`).

    Raises:
        UserError: there is no such class, or its package is not installed.
    """
    if name in EXTRAS:
        need(name)
    module, _, kind = TRACKERS.get(name, name).rpartition(".")
    try:
        cls: Any = vars(importlib.import_module(module)).get(kind) if module else None
    except ImportError as error:
        raise UserError(
            f"--trackers {name} can't be loaded: {error}; install its package, or correct the name"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Logger)):
        known = ", ".join(TRACKERS)
        raise UserError(
            f"--trackers {name} is no tracker: give {known}, or the full name of a class of Fabric's `Logger`"
        )
    return cls


@contextmanager
def _loggers_kept() -> Iterator[None]:
    """A store of MLflow that is made sets up logging anew, which silences all loggers that are there."""
    known = logging.root.manager.loggerDict.values()
    before = [each for each in known if isinstance(each, logging.Logger) and not each.disabled]
    yield
    for each in before:
        each.disabled = False


@contextmanager
def _on_the_disk(run: Run) -> Iterator[None]:
    """A disk that can't be written is a `UserError`; Fabric's loggers hide it behind a ValueError."""
    try:
        yield
    except (OSError, ValueError) as error:
        cause = error.__cause__ if isinstance(error, ValueError) else error
        if not isinstance(cause, OSError):
            raise
        raise unwritable(run.folder, cause, go_on(run.folder)) from error
