"""What a person sees while a run goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pullpush import progress
from pullpush.data.items import Items
from pullpush.doctor.findings.training import is_worse
from pullpush.progress import duration, say
from pullpush.runs.config import Config
from pullpush.runs.gain import kept_sentence
from pullpush.training.callbacks import Callback

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["Display", "planned"]

# Steps by whose time that of the others is told, and the seconds from which it is worth a line.
TIMED, WORTH = 9, 10.0


def planned(config: Config, items: Items, folder: Path) -> list[str]:
    """What a run will do, in a few lines."""
    parts = {name: items.split(name) for name in ("train", "validation", "test")}
    there = {n: f"{len(p):,} of {p.table['label'].nunique():,} classes" for n, p in parts.items() if len(p)}
    classes = min(config.batch.classes or config.usual_batch[0], parts["train"].table["label"].nunique())
    encoder, samples = config.encoder, config.batch.samples or config.usual_batch[1]
    size = f" at {encoder.size} px" if encoder.size else ""
    compared = [str(config.loss), f"miner {config.miner.name}" if config.miner else "no miner"]
    compared += [f"a memory of {config.memory.size:g}"] if config.memory.size else []
    time = f"; it ends after about {config.minutes:g} min" if config.minutes else ""
    return [
        f"train on {config.data.source}: items {', '.join(f'for {n} {text}' for n, text in there.items())}",
        f"encoder {encoder.name}{size}, {encoder.dim} dimensions: {_learning(config)}",
        f"loss {', '.join(compared)}",
        f"{config.steps:,} steps of at most {classes} classes x {samples}{time}",
        f"written to {folder}",
    ]


def _learning(config: Config) -> str:
    """What of the encoder learns."""
    own = config.encoder
    if own.frozen:
        return "its head learns"
    if own.tune in ("lora", "last-stages"):
        return f"{'adapters' if own.tune == 'lora' else f'its last {own.last_stages} stages'} and its head learn"
    fixed = own.frozen_stages if own.tune == "auto" else 0
    return f"all but its first {fixed} stages learn" if fixed else "all of it learns"


class Display(Callback):
    """The progress of the steps, how long they will take, and a line a validation."""

    def __init__(self) -> None:
        self._recall, self._stack = "-", ExitStack()
        self._from: tuple[int, float] | None = None
        self._validating, self._validations, self._told = 0.0, 0, False

    def on_train_start(self, run: Run) -> None:
        self._work = self._stack.enter_context(progress.work("training", run.config.steps, "steps", run.step))

    def on_log(self, run: Run, step: int, numbers: Mapping[str, float]) -> None:
        if "train/loss" in numbers:
            note = f"loss {numbers['train/loss']:.4f}, recall@1 {self._recall}"
            self._work.total = run.config.steps  # with minutes it changes
            self._work.advance(step - self._work.done, note)

    def on_validate(self, run: Run, step: int) -> None:
        self._validating -= perf_counter()

    def on_look(self, run: Run, step: int, validated: bool) -> None:
        """Says once how long the other steps will take, when the first ones were timed; the first one of all is not, as
        images are decoded before it."""
        now = perf_counter()
        self._validating += now * validated
        self._validations += validated
        if self._from is None:
            self._from, self._validating, self._validations = (step, now), 0.0, 0
        elif not self._told and step - self._from[0] >= TIMED:
            self._told = True
            mean = (now - self._from[1] - self._validating) / (step - self._from[0])
            left, every = run.config.steps - step, run.config.validation_interval
            each = self._validating / max(self._validations, 1)
            seconds = left * mean + math.ceil(left / every) * each
            if seconds > WORTH and not run.config.minutes:
                counted = "with their validations" if each else "without their validations"
                say(f"the other {left:,} steps take about {duration(seconds)} {counted}; then come test and report")

    def on_validation(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Those that the task follows are shown, the first on the bar too."""
        names = run.task.followed
        shown = {name: f"{metrics[key]:.3f}" for name in names if (key := f"validation/{name}") in metrics}
        self._recall = shown.get(names[0], "-")
        say(f"step {step}: validation {'  '.join(f'{name} {number}' for name, number in shown.items())}")

    def on_train_end(self, run: Run) -> None:
        self._stack.close()

    def on_test(self, run: Run, metrics: Mapping[str, Any]) -> None:
        """Which model is kept, and the metrics before and after training; what became worse stands out."""
        say(kept_sentence(metrics), style="bold red" if metrics["kept"] == "start" else "")
        before, after = metrics["test"]["before"], metrics["test"]["after"]
        if not after:
            say("no test: all classes are trained on (--data.test 0)")
            return
        classes = "seen in training" if metrics["test_classes"] == "seen" else "that were never trained on"
        for name in run.task.shown:
            worse = is_worse(before[name], after[name])
            digits = 3 if not worse or f"{before[name]:.3f}" != f"{after[name]:.3f}" else 6
            say(
                f"test {name}: {before[name]:.{digits}f} before, {after[name]:.{digits}f} after, on classes {classes}"
                + (": worse than untrained" if worse else ""),
                style="bold red" if worse else "",
            )
        if "views" in metrics["test"]:
            views, viewed = metrics["views"], metrics["test"]["views"]
            say(
                f"in test views ({', '.join(views['query'])}; of the gallery {', '.join(views['gallery'])}), for "
                f"{views['query_cost']:.1f} times the time of a query: "
                + ", ".join(f"test {name} {viewed[name]:.3f}" for name in run.task.shown)
            )
        reranked = metrics["test"].get("views_reranked") or metrics["test"].get("reranked")
        if reranked:
            found = ", ".join(f"test {name} {reranked[name]:.3f}" for name in run.task.shown if name in reranked)
            seen = ", in test views" if "views" in metrics["test"] else ""
            say(f"re-ranked ({metrics['rerank']['options']}{seen}): {found}")
