"""What a person sees while a run goes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from pullpush import progress
from pullpush.escape import printable

__all__ = ["Display"]


class Display:
    """The progress of a run, and lines that stay.

    Args:
        steps: of the whole run.
        quiet: show nothing (ranks other than the first).
    """

    def __init__(self, steps: int, quiet: bool = False) -> None:
        self._total, self._quiet, self._stack = steps, quiet, ExitStack()
        self._work: progress.Work | None = None
        self._recall, self._since = "-", time.perf_counter()

    def __enter__(self) -> "Display":
        self._stack.enter_context(progress.showing(not self._quiet))
        return self

    def __exit__(self, *args: Any) -> None:
        self._stack.close()

    def say(self, sentence: str, style: str = "") -> None:
        """A line that stays."""
        if not self._quiet:
            progress.say(printable(sentence), style)

    @contextmanager
    def training(self, done: int) -> Iterator[None]:
        """The steps after `done`."""
        with progress.work("training", self._total, "steps", done) as self._work:
            self._since = time.perf_counter()
            yield

    def advance(self, step: int, loss: float, images: int) -> None:
        """Steps up to `step` are done; `images` were seen since the last call."""
        now = time.perf_counter()
        rate = images / max(now - self._since, 1e-9)
        self._since = now
        if self._work:
            said = f"loss {loss:.4f}, recall@1 {self._recall}, {rate:.0f} images/s"
            self._work.advance(step - self._work.done, said)

    def evaluated(self, step: int, metrics: dict[str, float], only: Sequence[str] = ()) -> None:
        """An evaluation on the validation classes; of many metrics `only` some are shown, the first on the bar."""
        recall = metrics.get(f"validation/{only[0] if only else 'recall@1'}", float("nan"))
        metrics = {name: metrics[f"validation/{name}"] for name in only} or metrics
        self._recall = f"{recall:.3f}"
        self._since = time.perf_counter()
        shown = "  ".join(f"{name.removeprefix('validation/')} {number:.3f}" for name, number in metrics.items())
        self.say(f"step {step}: validation {shown}")
