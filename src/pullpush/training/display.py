"""What a person sees while a run goes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pullpush import progress
from pullpush.doctor.findings.training import is_worse
from pullpush.progress import say
from pullpush.runs.gain import kept_sentence
from pullpush.training.callbacks import Callback

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["Display"]


class Display(Callback):
    """The progress of the steps, and a line a validation."""

    def __init__(self) -> None:
        self._recall, self._stack = "-", ExitStack()

    def on_train_start(self, run: Run) -> None:
        self._work = self._stack.enter_context(progress.work("training", run.config.steps, "steps", run.step))

    def on_log(self, run: Run, step: int, numbers: Mapping[str, float]) -> None:
        if "train/loss" in numbers:
            note = f"loss {numbers['train/loss']:.4f}, recall@1 {self._recall}"
            self._work.total = run.config.steps  # with minutes it changes
            self._work.advance(step - self._work.done, note)

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
