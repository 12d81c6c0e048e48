"""What a run says, and who listens: a step, a log line, a validation, a checkpoint, the end.

`fabric.call(name, run, ...)` says each thing once to all callbacks. Whatever has a method of that name is one; numbers
also go to Fabric's loggers (TensorBoard, and each tracker that the run names).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pullpush.runs.checkpoint import BEST, LAST, save_checkpoint
from pullpush.runs.log import LOG, append, keep_until
from pullpush.runs.retrieved import RETRIEVED

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["Callback", "Checkpoints", "LogFile"]


class Callback:
    """Does nothing; take it as a base, or write a class with some of these methods.

    `run.config`, `run.folder`, `run.task`, `run.module`, `run.optimizer` and `run.fabric` may be looked at. All ranks
    call; `run.fabric.is_global_zero` says which one writes.
    """

    def on_setup(self, run: Run) -> None:
        """Task, optimiser and folder are there; `run.step` steps are done. A wrong option is best refused here."""

    def on_begin(self, run: Run) -> None:
        """The same, of a run that is not resumed: nothing was computed yet."""

    def on_train_start(self, run: Run) -> None:
        """Before the first step, or the first that is not done yet."""

    def on_step(self, run: Run, step: int) -> None:
        """After each step of the optimiser; nothing has waited for the device."""

    def on_log(self, run: Run, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers by name, of a step, a validation or the monitor; those of several steps may come together."""

    def on_validate(self, run: Run, step: int) -> None:
        """It is time to validate; step 0 is the untrained model."""

    def on_validation(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics on the validation classes, after they were logged."""

    def on_best(self, run: Run, step: int) -> None:
        """These weights are the best so far on the validation classes."""

    def on_look(self, run: Run, step: int, validated: bool) -> None:
        """Every few steps, when their numbers are logged: time for what may wait for the device."""

    def on_checkpoint(self, run: Run, step: int) -> None:
        """The state is to be kept."""

    def on_not_finite(self, run: Run, step: int) -> None:
        """The loss or its gradient is no number; `run.not_finite` names the first tensor, where that is known."""

    def on_train_end(self, run: Run) -> None:
        """After the last step, also when the run is stopped or fails."""

    def on_finish(self, run: Run) -> None:
        """All steps are done; the run is tested and its model saved."""

    def on_test(self, run: Run, metrics: Mapping[str, Any]) -> None:
        """What goes into metrics.json."""


class LogFile(Callback):
    """Numbers to log.jsonl; what `Results` adds to retrieved.jsonl is dropped with them."""

    def on_setup(self, run: Run) -> None:
        """Steps that will be done again are dropped."""
        if run.fabric.is_global_zero:
            for name in (LOG, RETRIEVED):
                keep_until(run.folder / name, run.step)

    def on_begin(self, run: Run) -> None:
        """So is step 0 of an attempt that ended before its first checkpoint."""
        if run.fabric.is_global_zero:
            for name in (LOG, RETRIEVED):
                keep_until(run.folder / name, -1)

    def on_log(self, run: Run, step: int, numbers: Mapping[str, float]) -> None:
        if run.fabric.is_global_zero:
            append(run.folder / LOG, {"step": step, **numbers})


class Checkpoints(Callback):
    """The state of the run to checkpoints/last.pt, its best weights to checkpoints/best.pt."""

    def on_best(self, run: Run, step: int) -> None:
        if run.fabric.is_global_zero:
            save_checkpoint(run.folder / BEST, {"step": step, "module": run.task.step.state_dict()})

    def on_checkpoint(self, run: Run, step: int) -> None:
        if run.fabric.is_global_zero:
            save_checkpoint(run.folder / LAST, run.state())
