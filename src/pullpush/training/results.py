"""What a run finds out: the validations, the best weights, the test before and after, and metrics.json."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pullpush.data.splits import kind_of_classes
from pullpush.runs.checkpoint import BEST, load_best, not_of_this_run
from pullpush.runs.folder import save_classes_seen, save_embeddings, save_metrics
from pullpush.runs.neighbours import save_neighbours
from pullpush.training.callbacks import Callback

if TYPE_CHECKING:
    from pullpush.training.loop import Run

__all__ = ["Results"]


class Results(Callback):
    """Validates, tells which weights are the best, and tests the first and the best ones."""

    def on_begin(self, run: Run) -> None:
        if run.fabric.is_global_zero:
            run.task.save_tables(run.folder)
            run.before = _test(run, "before")

    def on_validate(self, run: Run, step: int) -> None:
        metrics = {f"validation/{name}": value for name, value in run.task.validate(run.fabric.device).items()}
        if not metrics:
            return
        run.log(step, metrics)
        run.tell("on_validation", step, metrics)
        score = metrics[f"validation/{run.task.chosen_by}"]
        if score > run.best["score"]:
            run.best = {"step": step, "score": score, "metrics": metrics}
            run.tell("on_best", step)

    def on_finish(self, run: Run) -> None:
        """Tests the best weights, saves them as a model, and writes down the metrics."""
        if not run.fabric.is_global_zero:
            return
        task, best = run.task, run.best
        if best["step"]:
            with not_of_this_run(run.folder / BEST):
                task.step.load_state_dict(load_best(run.folder)["module"])
        save_classes_seen(run.folder, task.classes_seen(run.config.steps))
        for split in ("train", "validation"):
            if len(task.splits[split]):
                save_embeddings(run.folder, f"{split}-after", task.embed(split, run.fabric.device))
        after = _test(run, "after")
        task.save_model(run.folder / "model")
        metrics = {
            "data": run.config.data.source,
            "loss": run.config.loss.name,
            "steps": run.config.steps,
            "best_step": best["step"],
            "seconds": round(time.perf_counter() - run.since, 1),
            "test_classes": kind_of_classes(task.items, "test") if after else "none",
            "test": {"before": run.before, "after": after},
            "validation": {name.removeprefix("validation/"): value for name, value in best["metrics"].items()},
        }
        save_metrics(run.folder, metrics)
        run.tell("on_test", metrics)


def _test(run: Run, when: str) -> dict[str, float]:
    """Embeds the test items, keeps the embeddings and their neighbours, and gives the metrics."""
    if not len(run.task.splits["test"]):
        return {}
    embedded = run.task.embed("test", run.fabric.device)
    save_embeddings(run.folder, f"test-{when}", embedded)
    evaluation = run.task.evaluate("test", embedded)
    save_neighbours(run.folder, f"test-{when}", evaluation)
    return dict(evaluation.metrics)
