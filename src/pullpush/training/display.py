"""What a person sees while a run goes."""

from collections.abc import Iterator, Mapping, Sequence
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
        self._recall = "-"

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
            yield

    def advance(self, step: int, loss: float) -> None:
        """Steps up to `step` are done."""
        if self._work:
            self._work.advance(step - self._work.done, f"loss {loss:.4f}, recall@1 {self._recall}")

    def evaluated(self, step: int, metrics: Mapping[str, float], only: Sequence[str]) -> None:
        """An evaluation on the validation classes; `only` these metrics are shown, the first on the bar too."""
        shown = {name: f"{metrics[key]:.3f}" for name in only if (key := f"validation/{name}") in metrics}
        self._recall = shown.get(only[0], "-")
        self.say(f"step {step}: validation {'  '.join(f'{name} {number}' for name, number in shown.items())}")
