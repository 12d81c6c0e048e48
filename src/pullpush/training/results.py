"""What a run is worth: validations, the model that it keeps, and the test before and after training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from pullpush.data.splits import kind_of_classes
from pullpush.encoders import Compression, load
from pullpush.evaluation import CrossModal, Evaluation
from pullpush.evaluation.open_set import naming
from pullpush.evaluation.retrieval import RERANKED, VIEWS_RERANKED
from pullpush.progress import say
from pullpush.runs.checkpoint import BEST, START, WEIGHTS, load_checkpoint, not_of_this_run, save_checkpoint
from pullpush.runs.folder import save_embeddings, save_results
from pullpush.runs.gain import gain_over_start
from pullpush.runs.neighbours import save_neighbours
from pullpush.runs.reader import Missing, RunFolder
from pullpush.runs.retrieval import MOST, ways_of
from pullpush.runs.retrieved import append_retrieved
from pullpush.training.averages import SHARES, blended
from pullpush.training.callbacks import Callback
from pullpush.training.compression import fit_compression
from pullpush.training.decision import decide, verified
from pullpush.training.ranks import together
from pullpush.training.reranking import reranking_of
from pullpush.training.views import see, sides_of

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["Results", "load_weights"]

Measured = Evaluation | CrossModal


class Results(Callback):
    """Validates, tells which weights are the best, and keeps those or, where they show no gain, the untrained ones.

    Both are tested; the test has no part in the choice.
    """

    def on_begin(self, run: Run) -> None:
        run.before = together(run, lambda: _started(run))
        self.on_validate(run, 0)

    def on_validate(self, run: Run, step: int) -> None:
        if not len(run.task.splits["validation"]):
            return
        metrics = {f"validation/{name}": value for name, value in together(run, lambda: _validated(run, step)).items()}
        run.log(step, metrics)
        run.tell("on_validation", step, metrics)
        if step:
            self._compare(run, step, metrics)
            return
        run.start = metrics[f"validation/{run.task.chosen_by}"]

    def _compare(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Keeps the weights or, in the second half of the run, their average, where one of them is the best so far."""
        chosen_by = f"validation/{run.task.chosen_by}"
        found = {"trained": metrics}
        if run.average is not None and 2 * step >= run.config.steps:
            averaged = together(run, lambda: _averaged(run))
            run.log(step, {f"validation/average/{name}": value for name, value in averaged.items()})
            found["average"] = {f"validation/{name}": value for name, value in averaged.items()}
        kept = max(found, key=lambda name: found[name][chosen_by])
        score = found[kept][chosen_by]
        if score > run.best["score"]:
            run.best = {"step": step, "score": score, "metrics": found[kept], "kept": kept}
            with run.average.in_place() if run.average is not None and kept == "average" else nullcontext():
                run.tell("on_best", step)

    def on_finish(self, run: Run) -> None:
        """Keeps a model, tests it, and writes down the metrics."""
        together(run, lambda: self._finish(run))

    def _finish(self, run: Run) -> None:
        task = run.task
        chosen = _keep(run)
        trained = task.embed("train", run.fabric.device) if len(task.splits["train"]) else None
        compression: Compression | None = None
        reduced: dict[str, Any] = {}
        if trained is not None:
            save_embeddings(run.folder, "train-after", trained)
            compression, reduced = fit_compression(run, trained)
        after = _test(run, "after")
        seen = see(run)
        task.views = seen.views
        validation = sides_of(run, "validation", seen.validation)
        decision, reranking = decide(run, validation), reranking_of(run, validation)
        task.save_model(run.folder / "model", compression, decision, reranking.options)
        metrics = {
            "data": run.config.data.source,
            "loss": run.config.loss.name,
            "steps": run.step,
            **chosen,
            "collapse": run.collapse and asdict(run.collapse),
            "model": task.costs.values(),
            "seconds": round(time.perf_counter() - run.since, 1),
            "test_classes": kind_of_classes(task.items, "test") if after else "none",
            "test": {"before": run.before, "after": after, **_test_views(run)},
            "views": seen.values(),
            "rerank": reranking.values(),
            "compression": reduced,
            "naming": _naming(run),
            "verification": verified(run, decision),
        }
        metrics["retrieval"], more = _retrieval(run)
        metrics["test"] |= more
        save_results(run.folder, task.classes_seen(run.step), metrics)
        run.tell("on_test", metrics)


def _started(run: Run) -> dict[str, float]:
    """Tests the untrained model, which is kept. Returns the metrics."""
    run.task.save_tables(run.folder)
    before = _test(run, "before")
    save_checkpoint(run.folder / START, {"step": 0, "module": run.task.step.state_dict()})
    return before


def _validated(run: Run, step: int) -> dict[str, float]:
    """Metrics and losses of the validation items; those of the untrained model are kept."""
    embedded, evaluation = _measured(run, "validation")
    if not step:
        _save(run, "validation-before", embedded, evaluation)
    metrics = _metrics(run, embedded, evaluation)
    append_retrieved(run.folder, step, evaluation)
    return metrics


def _averaged(run: Run) -> dict[str, float]:
    """The metrics of the average of the weights."""
    assert run.average is not None
    with run.average.in_place():
        return dict(_measured(run, "validation")[1].metrics)


def _keep(run: Run) -> dict[str, Any]:
    """Loads the weights that the run keeps. Returns what metrics.json says of them.

    Those of the best validation, or a blend of them with the untrained ones that is better, are kept where the
    validation classes show a gain over the untrained model, or where these can't tell; otherwise the untrained ones,
    unless the gate is off.
    """
    said = {
        "kept": "trained",
        "share": 1.0,
        "best_step": run.best["step"],
        "gain": None,
        "blends": {},
        "validation": {},
    }
    if not run.best["step"]:
        if run.collapse is None or not run.collapse.ends:
            return said
        load_weights(run, START)
        return said | {"kept": "start", "share": 0.0}
    models, chosen_by = Blends(run), run.task.chosen_by
    shares = (1.0, *SHARES) if run.config.average.blend else (1.0,)
    measured = {share: models.measured(share) for share in shares}
    scores = {share: each[1].metrics[chosen_by] for share, each in measured.items()}
    share = max(scores, key=lambda share: scores[share])
    gain = gain_over_start(run.folder, measured[share][1], chosen_by)
    if run.config.gate and gain and not gain.shown:
        share = 0.0
    if share not in measured:  # the untrained ones, which no blend is
        measured[share] = models.measured(share)
    models.load(share)
    embedded, evaluation = measured[share]
    save_embeddings(run.folder, "validation-after", embedded)
    kept = {0.0: "start", 1.0: run.best.get("kept", "trained")}.get(share, "blend")
    said |= {"kept": kept, "share": share, "best_step": said["best_step"] if share else 0}
    said |= {"gain": gain and gain.values(), "blends": {f"{share:g}": score for share, score in scores.items()}}
    return said | {"validation": _metrics(run, embedded, evaluation)}


class Blends:
    """The untrained weights, the best ones, and what lies between them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.states = {0.0: load_weights(run, START), 1.0: load_weights(run, BEST)}

    def measured(self, share: float) -> tuple[dict[str, torch.Tensor], Measured]:
        """Loads the weights with this share of the best ones, and measures them on the validation classes."""
        self.load(share)
        return _measured(self.run, "validation")

    def load(self, share: float) -> None:
        """Puts the weights with this share of the best ones to use."""
        start, best = self.states[0.0], self.states[1.0]
        state = self.states[share] if share in self.states else blended(start, best, share)
        self.run.task.step.load_state_dict(state)


def load_weights(run: Run, name: str) -> Mapping[str, torch.Tensor]:
    """Puts the weights of a checkpoint to use, and returns the state of the module.

    A run that was restarted with other options keeps its criterion: that of the checkpoint may be another.
    """
    state: dict[str, torch.Tensor] = load_checkpoint(run.folder / name, WEIGHTS)["module"]
    if run.collapse and run.collapse.options:
        own = {each: value for each, value in state.items() if not each.startswith("criterion.")}
        state = run.task.step.state_dict() | own
    with not_of_this_run(run.folder / name):
        run.task.step.load_state_dict(state)
    return state


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


def _naming(run: Run) -> dict[str, Any]:
    """How well the test items are given their class: k-NN and few-shot accuracy, and open-set identification."""
    if not len(run.task.splits["test"]):
        return {}
    table = run.task.splits["test"].table
    return naming(RunFolder(run.folder).embeddings("test", "after"), table["label"].to_numpy(), table["id"].to_numpy())


def _test_views(run: Run) -> dict[str, dict[str, float]]:
    """The same in the views of the model, where it has some."""
    views, task = run.task.views, run.task
    if views.plain or not len(task.splits["test"]):
        return {}
    device = run.fabric.device
    queries, gallery = views.seen(task.embed_views("test", views.all, device))
    evaluation = task.evaluate("test", task.embed_texts("test", device), (queries, gallery))
    save_embeddings(run.folder, "test-views", {"gallery": gallery, "query": queries})
    save_neighbours(run.folder, "test-views", evaluation)
    return {"views": dict(evaluation.metrics)}


def _retrieval(run: Run) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """The table of what the model finds in each way that it can be used, and the metrics of the re-ranked test."""
    count = len(run.task.splits["test"])
    if not (run.config.table and count):
        return [], {}
    if count > MOST:
        say(
            f"the table of what is found and what it costs is left out for {count:,} test items: "
            f"pullpush evaluate {run.folder} --table makes it"
        )
        return [], {}
    try:
        found = ways_of(RunFolder(run.folder), load(run.folder / "model"))
    except Missing:  # without classes there is none
        return [], {}
    tested = {RERANKED: "reranked", VIEWS_RERANKED: "views_reranked"}
    return [way.values() for way in found], {tested[w.name]: w.metrics for w in found if w.name in tested}
