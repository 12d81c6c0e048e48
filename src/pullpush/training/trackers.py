"""Where numbers go beside log.jsonl: TensorBoard, and each tracker that a run names, by Fabric's loggers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from pullpush.errors import UserError
from pullpush.files import unwritable
from pullpush.runs.log import go_on
from pullpush.signatures import of
from pullpush.training.callbacks import Callback

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["TRACKERS", "Trackers", "tracker"]

# What people type, and the class that it stands for; any other class is named in full.
TRACKERS = {
    "csv": "lightning_fabric.loggers.CSVLogger",
    "comet": "lightning.pytorch.loggers.CometLogger",
    "mlflow": "lightning.pytorch.loggers.MLFlowLogger",
    "neptune": "lightning.pytorch.loggers.NeptuneLogger",
    "wandb": "lightning.pytorch.loggers.WandbLogger",
}


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
        self.kinds, self.loggers, self.tensorboard = [tracker(name) for name in names], list(loggers), tensorboard

    def on_setup(self, run: Run) -> None:
        """Makes the trackers with their own defaults; those that write files write into the run folder."""
        places = {"root_dir": str(run.folder), "save_dir": str(run.folder)}
        own = [{name: place for name, place in places.items() if name in of(kind).options} for kind in self.kinds]
        loggers = [*(kind(**options) for kind, options in zip(self.kinds, own, strict=True)), *self.loggers]
        for logger in loggers:
            with suppress(NotImplementedError):  # csv has no place for them
                logger.log_hyperparams(run.config.values())
        if self.tensorboard:
            loggers.append(TensorBoardLogger(run.folder, "tensorboard", "", purge_step=run.step + 1))
        run.fabric.loggers[:] = loggers  # instead of those of a run that is begun again

    def on_log(self, run: Run, step: int, numbers: Mapping[str, float]) -> None:
        with _on_the_disk(run):
            run.fabric.log_dict(numbers, step)

    def on_train_end(self, run: Run) -> None:
        with _on_the_disk(run):
            for logger in run.fabric.loggers:
                logger.finalize("success" if run.step == run.config.steps else "aborted")


def tracker(name: str) -> type[Logger]:
    """The class of a tracker.

    Args:
        name: one of `TRACKERS`, or the full name of a class of Fabric's `Logger` (`package.module.Class`).

    Raises:
        UserError: there is no such class, or its package is not installed.
    """
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
def _on_the_disk(run: Run) -> Iterator[None]:
    """A disk that can't be written is a `UserError`; Fabric's loggers hide it behind a ValueError."""
    try:
        yield
    except (OSError, ValueError) as error:
        cause = error.__cause__ if isinstance(error, ValueError) else error
        if not isinstance(cause, OSError):
            raise
        raise unwritable(run.folder, cause, go_on(run.folder)) from error
