"""A run that has so many minutes ends when they are over: the number of its steps follows the time that they take."""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from pullpush.training.averages import SHARES
from pullpush.training.callbacks import Callback
from pullpush.training.plan import MARGIN, steps_left

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["Pace"]

# Steps whose mean time stands for those to come: on a GPU some wait for what others began.
RECENT = 20
# Steps that are not timed: before the first one images are decoded, after it all is looked at, and on a GPU the first
# ones choose and load what the others reuse.
UNTIMED = 2


class Pace(Callback):
    """Sets `run.config.steps` after each step, so that the last validation, the test, the model and the report are done
    when the minutes are over. The rate follows `run.share`, the share of the run that is done, whatever their number.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._began: float | None = None
        self._at = self._validating = self._validation = self._blends = 0.0
        self._first = self._validated = 0

    def on_begin(self, run: Run) -> None:
        self._began = perf_counter()

    def on_train_start(self, run: Run) -> None:
        """What comes after the last step embeds what came before the first one, the training images, and the validation
        items for each blend of weights, which takes as long as a validation once one was timed."""
        self._at, self._first, self._validated = perf_counter(), run.step + 1, run.step
        if self._began is not None:
            sizes = {name: len(items) for name, items in run.task.splits.items()}
            before = sizes["test"] + sizes["validation"]
            each = (self._at - self._began) / max(before, 1)
            self._blends = (len(SHARES) + 1) * sizes["validation"] * each if run.config.average.blend else 0.0
            run.tail += each * (before + sizes["train"]) + self._blends

    def on_step(self, run: Run, step: int) -> None:
        now = perf_counter()
        if step >= self._first + UNTIMED:
            self._seconds.append(now - self._at)
        self._at = now
        if not run.config.minutes:
            return
        left = run.since + 60 * run.config.minutes * (1 - MARGIN) - now - run.tail
        steps, every = run.config.steps, run.config.validate_every or run.config.steps
        if left <= 0:
            steps = step
        elif self._seconds:
            mean = sum(self._seconds) / len(self._seconds)
            steps = step + steps_left(left, mean, self._validation, every, step - self._validated)
        run.config.steps = run.fabric.broadcast(steps)

    def on_validate(self, run: Run, step: int) -> None:
        self._validated, self._validating = step, perf_counter()

    def on_look(self, run: Run, step: int, validated: bool) -> None:
        """The time of a validation is not that of the next step."""
        if validated:
            self._validation = perf_counter() - self._validating
            self._at += self._validation
            if self._blends and 2 * step < run.config.steps:  # later the average of the weights is validated too
                run.tail += (len(SHARES) + 1) * self._validation - self._blends
                self._blends = 0.0
