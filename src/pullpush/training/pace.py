"""A run that has so many minutes ends when they are over: the number of its steps follows the time that they take."""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from pullpush.training.averages import SHARES
from pullpush.training.callbacks import Callback
from pullpush.training.plan import MARGIN, steps_left

if TYPE_CHECKING:
    from pullpush.training.loop import Run

__all__ = ["Pace"]

# Steps whose mean time stands for those to come: on a GPU some wait for what others began.
RECENT = 20


class Pace(Callback):
    """Sets `run.config.steps` after each step, so that the last validation, the test, the model and the report are done
    when the minutes are over. The rate follows `run.share`, the share of the run that is done, whatever their number.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._began: float | None = None
        self._at = self._validating = self._validation = 0.0
        self._first = self._validated = 0

    def on_begin(self, run: Run) -> None:
        self._began = perf_counter()

    def on_train_start(self, run: Run) -> None:
        """What comes after the last step embeds what came before the first one, the training images, and the validation
        items for each blend of weights."""
        self._at, self._first, self._validated = perf_counter(), run.step + 1, run.step
        if self._began is not None:
            sizes = {name: len(items) for name, items in run.task.splits.items()}
            before = sizes["test"] + sizes["validation"]
            blends = (len(SHARES) + 1) * sizes["validation"] if run.config.average.blend else 0
            run.tail += (self._at - self._began) * (before + sizes["train"] + blends) / max(before, 1)

    def on_step(self, run: Run, step: int) -> None:
        now = perf_counter()
        if step > self._first:  # before the first one, images were decoded
            self._seconds.append(now - self._at)
        self._at = now
        if not run.config.minutes or not self._seconds:
            return
        left = run.since + 60 * run.config.minutes * (1 - MARGIN) - now - run.tail
        mean, every = sum(self._seconds) / len(self._seconds), run.config.validate_every or run.config.steps
        steps = step + steps_left(left, mean, self._validation, every, step - self._validated)
        run.config.steps = run.fabric.broadcast(steps)

    def on_validate(self, run: Run, step: int) -> None:
        self._validated, self._validating = step, perf_counter()

    def on_look(self, run: Run, step: int, validated: bool) -> None:
        """The time of a validation is not that of the next step."""
        if validated:
            self._validation = perf_counter() - self._validating
            self._at += self._validation
