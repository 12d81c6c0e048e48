"""The doctor at the bedside: looks at a run every few steps, and says once what is wrong."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pullpush.data.items import Items
from pullpush.doctor import (
    PREFIX,
    Finding,
    History,
    Measures,
    examine,
    explained_by,
    measure_queries,
    measure_result,
    not_finite_step,
    objective_of,
)
from pullpush.runs.config import Config
from pullpush.runs.log import RunLog, append, keep_until, read_log
from pullpush.training.display import Display
from pullpush.training.images import ImageTask
from pullpush.training.probes import LastBatch, learned_options, measure_batch, measure_updates
from pullpush.training.texts import ImageTextTask

__all__ = ["Monitor"]

Task = ImageTask | ImageTextTask

FILE = "findings.jsonl"
# Looks in a run, at most, and steps between them, at least.
LOOKS, EVERY = 32, 10


class Monitor:
    """Measures a run at every few steps and after each validation; a finding is said and written down once.

    It adds no work to a step: it reads the batch that the criterion saw last, the optimiser's state and the log.

    Args:
        folder: the run folder; findings go to its findings.jsonl.
        config: of the run.
        task: of the run.
        log: takes the measures.
        display: says what is found.
        done: steps already done; findings of later steps are forgotten.
        quiet: write nothing (ranks other than the first).
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        task: Task,
        log: RunLog,
        display: Display,
        *,
        done: int = 0,
        quiet: bool = False,
    ) -> None:
        self.every = EVERY * max(1, config.steps // (EVERY * LOOKS))
        self.criterion, self.log, self.display = task.criterion, log, display
        self.batch = LastBatch(task.criterion, done, self.every)
        self.history = History(_classes(task.splits["validation"]))
        self._objective = objective_of(_in_use(config, task), _limits(task.splits["train"]))
        self._path = Path(os.devnull) if quiet else folder / FILE
        self._said = set() if quiet else {line.get("finding") for line in keep_until(self._path, done or -1)}
        for line in read_log(folder / "log.jsonl") if done else []:
            self.history.add(line)

    def start(self, task: Task) -> None:
        """Examines what is known before the first step: whether the weights came, whether the test has positives."""
        loaded = task.encoder.loaded
        found = Measures(frozen=float(task.encoder.freeze))
        random = loaded.source == "none"
        # Random weights that are asked for are no fault, unless they stay as they are.
        found["weights_missing"] = float(len(loaded.missing) or (random and task.encoder.freeze))
        found["weights_loaded"] = float(loaded.matched)
        found |= measure_queries(task.splits["test"].table, *task.queries())
        self._examine(0, found)

    def wrote(self, step: int, values: Mapping[str, float]) -> None:
        """Takes what was written in the log."""
        self.history.add({"step": step, **values})

    def look(self, step: int, optimizer: Any, *, validated: bool) -> None:
        """Looks at the last batch and the last update, when it is time to, as after the first step or a validation."""
        if step % self.every and step > 1 and not validated:
            return
        if self.batch.given:
            found = measure_batch(self.batch, learned_options(self.criterion, self._objective))
            found |= measure_updates(optimizer)
            named = {PREFIX + name: float(value) for name, value in found.items() if math.isfinite(value)}
            self.log.write(step, named)
            self.history.add({"step": step, **named})
        self._examine(step, self.history.measures())

    def ended(self, step: int, test: Mapping[str, Mapping[str, float]]) -> None:
        """Looks at the metrics on the test classes before and after training."""
        self._examine(step, measure_result(test))

    def not_finite(self, step: int, tensor: str | None) -> None:
        """The loss or its gradient was no number; `tensor` names the first one that was not."""
        self.report(step, not_finite_step(step, tensor, self._objective))

    def report(self, step: int, finding: Finding) -> None:
        """Says a finding and writes it down, unless that was done before, or with one that explains it."""
        if finding.finding in self._said or explained_by(finding.finding, self._said):
            return
        self._said.add(finding.finding)
        append(self._path, {"step": step, **asdict(finding)})
        self.display.say(f"step {step}: {finding}")

    def _examine(self, step: int, measures: Measures) -> None:
        for finding in examine(measures, learned_options(self.criterion, self._objective)):
            self.report(step, finding)


def _classes(items: Items) -> int:
    return len(items.labels.unique()) if len(items) else 0


def _in_use(config: Config, task: Task) -> dict[str, Any]:
    """The options of the run, with the batch that follows the data."""
    batch = {**asdict(config.batch), "classes": task.sampler.classes, "samples": task.sampler.samples}
    return config.values() | {"batch": batch}


def _limits(train: Items) -> dict[str, float]:
    """What a batch can have at most."""
    sizes = train.labels.unique(return_counts=True)[1]
    return {"batch.classes": float(len(sizes)), "batch.samples": float(sizes.max())} if len(sizes) else {}
