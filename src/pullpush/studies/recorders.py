"""What studies write into a run's folder beside its log."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from pullpush.files import damaged, read_text, write_text
from pullpush.runs.config import Config

__all__ = ["StepTimes", "seconds_per_step"]

AGAIN = "then give the same command again"


class StepTimes:
    """The clock after each step, a line each, to `times.csv`; what is there already stays.

    Written after the last step, so before the run is finished, and where the run is stopped.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self._path, self._lines = folder / "times.csv", [""]

    def __call__(self, run: Any, step: int) -> None:
        self._lines.append(f"{step},{time.perf_counter():.6f}")
        if step == run.config.steps:
            self.close()

    def close(self) -> None:
        if len(self._lines) > 1:
            earlier = read_text(self._path, _cure(self._path.parent)) if self._path.exists() else ""
            write_text(self._path, earlier + "\n".join(self._lines), AGAIN)
            self._lines = [""]


def seconds_per_step(folder: Path) -> float:
    """Median of the time between two steps of one process; NaN where nothing was recorded.

    The median leaves out evaluations, checkpoints and the warm-up of the first steps.
    """
    path = folder / "times.csv"
    if not path.exists():
        return float("nan")
    cure = _cure(folder)
    try:
        lines = [line.split(",") for line in read_text(path, cure).split("\n") if line]
        rows = np.array(lines, dtype=np.float64).reshape(-1, 2)
    except ValueError as error:
        raise damaged(path, error, cure) from error
    apart = np.diff(rows[:, 1])[np.diff(rows[:, 0]) == 1]
    return float(np.median(apart[apart > 0])) if (apart > 0).any() else float("nan")


def _cure(folder: Path) -> str:
    return f"remove {folder}, and the same command trains that run again"
