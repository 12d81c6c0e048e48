"""What a run is worth: validations, the model that it keeps, and the test before and after training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from pullpush.data.splits import kind_of_classes
from pullpush.evaluation import CrossModal, Evaluation
from pullpush.runs.checkpoint import BEST, START, WEIGHTS, load_checkpoint, not_of_this_run, save_checkpoint
from pullpush.runs.folder import save_embeddings, save_results
from pullpush.runs.gain import gain_over_start
from pullpush.runs.neighbours import save_neighbours
from pullpush.training.callbacks import Callback

if TYPE_CHECKING:
    from pullpush.training.loop import Run

__all__ = ["Results"]

Measured = Evaluation | CrossModal


class Results(Callback):
    """Validates, tells which weights are the best, and keeps those or, where they show no gain, the untrained ones.

    Both are tested; the test has no part in the choice.
    """

    def on_begin(self, run: Run) -> None:
        if run.fabric.is_global_zero:
            run.task.save_tables(run.folder)
            run.before = _test(run, "before")
        self.on_validate(run, 0)

    def on_validate(self, run: Run, step: int) -> None:
        if not len(run.task.splits["validation"]):
            return
        embedded, evaluation = _measured(run, "validation")
        metrics = {f"validation/{name}": value for name, value in _metrics(run, embedded, evaluation).items()}
        run.log(step, metrics)
        run.tell("on_validation", step, metrics)
        score = metrics[f"validation/{run.task.chosen_by}"]
        if not step:
            if run.fabric.is_global_zero:
                _save(run, "validation-before", embedded, evaluation)
                save_checkpoint(run.folder / START, {"step": 0, "module": run.task.step.state_dict()})
        elif score > run.best["score"]:
            run.best = {"step": step, "score": score, "metrics": metrics}
            run.tell("on_best", step)

    def on_finish(self, run: Run) -> None:
        """Keeps a model, tests it, and writes down the metrics."""
        if not run.fabric.is_global_zero:
            return
        task = run.task
        chosen = _keep(run)
        if len(task.splits["train"]):
            save_embeddings(run.folder, "train-after", task.embed("train", run.fabric.device))
        after = _test(run, "after")
        task.save_model(run.folder / "model")
        metrics = {
            "data": run.config.data.source,
            "loss": run.config.loss.name,
            "steps": run.config.steps,
            **chosen,
            "seconds": round(time.perf_counter() - run.since, 1),
            "test_classes": kind_of_classes(task.items, "test") if after else "none",
            "test": {"before": run.before, "after": after},
        }
        save_results(run.folder, task.classes_seen(run.config.steps), metrics)
        run.tell("on_test", metrics)


def _keep(run: Run) -> dict[str, Any]:
    """Loads the weights that the run keeps. Returns what metrics.json says of them.

    The best weights of training are kept where the validation classes show a gain over the untrained model, or where
    these can't tell; otherwise the untrained model, unless the gate is off.
    """
    kept, step, gain = "trained", run.best["step"], None
    if step:
        _load(run, BEST)
    if not len(run.task.splits["validation"]):
        return {"kept": kept, "best_step": step, "gain": gain, "validation": {}}
    embedded, evaluation = _measured(run, "validation")
    gain = gain_over_start(run.folder, evaluation, run.task.chosen_by)
    if run.config.gate and gain and not gain.shown:
        kept, step = "start", 0
        _load(run, START)
        embedded, evaluation = _measured(run, "validation")
    save_embeddings(run.folder, "validation-after", embedded)
    validation = _metrics(run, embedded, evaluation)
    return {"kept": kept, "best_step": step, "gain": gain and gain.values(), "validation": validation}


def _load(run: Run, name: str) -> None:
    with not_of_this_run(run.folder / name):
        run.task.step.load_state_dict(load_checkpoint(run.folder / name, WEIGHTS)["module"])


def _measured(run: Run, split: str) -> tuple[dict[str, torch.Tensor], Measured]:
    embedded = run.task.embed(split, run.fabric.device)
    return embedded, run.task.evaluate(split, embedded)


def _metrics(run: Run, embedded: Mapping[str, torch.Tensor], evaluation: Measured) -> dict[str, float]:
    """Of the validation items: metrics and losses."""
    return {**evaluation.metrics, **run.task.validation_losses(embedded, run.fabric.device)}


def _save(run: Run, name: str, embedded: Mapping[str, torch.Tensor], evaluation: Measured) -> None:
    save_embeddings(run.folder, name, embedded)
    save_neighbours(run.folder, name, evaluation)


def _test(run: Run, when: str) -> dict[str, float]:
    """Embeds the test items, keeps the embeddings and their neighbours, and gives the metrics."""
    if not len(run.task.splits["test"]):
        return {}
    embedded, evaluation = _measured(run, "test")
    _save(run, f"test-{when}", embedded, evaluation)
    return dict(evaluation.metrics)
