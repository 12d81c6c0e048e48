"""The doctor at the bedside: looks at a run every few steps, and says once what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pullpush.doctor.declaration import Finding, typed
from pullpush.doctor.diagnose import examine, explained_by
from pullpush.doctor.findings.not_finite import not_finite_step
from pullpush.doctor.history import PREFIX, History
from pullpush.doctor.measures import Measures, measure_metrics, measure_queries
from pullpush.doctor.objective import objective_of
from pullpush.progress import say
from pullpush.runs.log import FINDINGS, LOG, append, keep_until, read_log
from pullpush.training.callbacks import Callback
from pullpush.training.probes import LastBatch, learned_options, measure_batch, measure_updates

if TYPE_CHECKING:
    from pullpush.training.run import Run
    from pullpush.training.task import Task

__all__ = ["Monitor"]

# Looks in a run, at most, and steps between them, at least.
LOOKS, EVERY = 32, 10


class Monitor(Callback):
    """Measures a run at every few steps and after each validation; a finding is said and written down once.

    It adds no work to a step: it reads the batch that the criterion saw last, the optimiser's state and the log.
    """

    def on_setup(self, run: Run) -> None:
        task, done = run.task, run.step
        self.every = EVERY * max(1, run.config.steps // (EVERY * LOOKS))
        self.batch = LastBatch(task.criterion, done, self.every)
        validation, train = task.splits["validation"], task.splits["train"]
        self.history = History(len(validation.labels.unique()) if len(validation) else 0)
        # The batch may follow the data, which also say what it can have at most.
        batch = replace(run.config.batch, classes=task.sampler.classes, samples=task.sampler.samples)
        sizes = train.labels.unique(return_counts=True)[1].double().tolist()
        limits = {"batch.classes": float(len(sizes)), "batch.samples": max(sizes)} if sizes else {}
        self.objective = objective_of(run.config.values() | {"batch": vars(batch)}, limits)
        self._path = run.folder / FINDINGS if run.fabric.is_global_zero else None
        self._said = {str(line.get("finding")) for line in keep_until(self._path, done or -1)} if self._path else set()
        for line in read_log(run.folder / LOG) if done else []:
            self.history.add(line)
        if not done and self._path:
            self._examine(0, _at_start(task))
        if run.collapse is not None and run.collapse.then == "restarted":
            evidence, options = {"step": float(run.collapse.step)}, typed(run.collapse.options)
            self.report(
                done,
                Finding("collapse", "critical", evidence, f"From step {run.collapse.since} on it runs with {options}."),
            )

    def on_log(self, run: Run, step: int, numbers: Mapping[str, float]) -> None:
        self.history.add({"step": step, **numbers})

    def on_look(self, run: Run, step: int, validated: bool) -> None:
        """Looks at the last batch and the last update, when it is time to, as after the first step or a validation."""
        if step % self.every and step > 1 and not validated:
            return
        if self.batch.given:
            measures = measure_batch(self.batch, learned_options(self.batch.criterion, self.objective))
            measures |= measure_updates(run.optimizer)
            run.log(step, {PREFIX + name: float(x) for name, x in measures.items() if math.isfinite(x)})
        self._examine(step, self.history.measures())

    def on_not_finite(self, run: Run, step: int) -> None:
        self.report(step, not_finite_step(step, run.not_finite, self.objective))

    def on_test(self, run: Run, metrics: Mapping[str, Any]) -> None:
        """Looks at the metrics on validation and test classes before and after training."""
        self._examine(run.config.steps, measure_metrics(metrics))

    def report(self, step: int, finding: Finding) -> None:
        """Says a finding and writes it down, unless that was done before, or with one that explains it."""
        if finding.finding in self._said or explained_by(finding.finding, self._said):
            return
        self._said.add(finding.finding)
        if self._path:
            append(self._path, {"step": step, **asdict(finding)})
        say(f"step {step}: {finding}")

    def _examine(self, step: int, measures: Measures) -> None:
        for finding in examine(measures, learned_options(self.batch.criterion, self.objective)):
            self.report(step, finding)


def _at_start(task: Task) -> Measures:
    """What is known before the first step: whether the weights came, whether the test has positives."""
    measures = measure_queries(task.splits["test"].table, *task.queries())
    loaded, frozen = task.encoder.loaded, task.encoder.freeze
    if loaded is not None:
        measures["frozen"] = float(frozen)
        # Random weights that are asked for are no fault, unless they stay as they are.
        measures["weights_missing"] = float(len(loaded.missing) or (loaded.source == "none" and frozen))
        measures["weights_loaded"] = float(loaded.matched)
    return measures
