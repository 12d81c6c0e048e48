"""What a person sees while a run goes."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pullpush.escape import printable

__all__ = ["Display"]


class Display:
    """A progress bar on a terminal, a line an evaluation elsewhere.

    Args:
        steps: of the whole run.
        quiet: show nothing (ranks other than the first).
    """

    def __init__(self, steps: int, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("[bold]step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  recall@1 {task.fields[recall]}  {task.fields[rate]} images/s"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=steps, loss="-", recall="-", rate="-")
        self._seen, self._since = 0, time.perf_counter()

    def __enter__(self) -> "Display":
        self._bar.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        self._bar.__exit__(*args)

    def say(self, sentence: str, style: str = "") -> None:
        """A line that stays."""
        self.console.print(printable(sentence), style=style, markup=False)

    def advance(self, step: int, loss: float, images: int) -> None:
        """Steps up to `step` are done; `images` were seen since the last call."""
        now = time.perf_counter()
        rate = images / max(now - self._since, 1e-9)
        self._since = now
        self._bar.update(self._task, completed=step, loss=f"{loss:.4f}", rate=f"{rate:.0f}")

    def evaluated(self, step: int, metrics: dict[str, float], only: Sequence[str] = ()) -> None:
        """An evaluation on the validation classes; of many metrics `only` some are shown, the first on the bar."""
        recall = metrics.get(f"validation/{only[0] if only else 'recall@1'}", float("nan"))
        metrics = {name: metrics[f"validation/{name}"] for name in only} or metrics
        self._bar.update(self._task, recall=f"{recall:.3f}")
        self._since = time.perf_counter()
        shown = "  ".join(f"{name.removeprefix('validation/')} {number:.3f}" for name, number in metrics.items())
        self.say(f"step {step}: validation {shown}")
