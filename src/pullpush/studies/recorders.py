"""What studies write into a run's folder beside its log."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from pullpush.training.config import Config

__all__ = ["StepTimes", "seconds_per_step"]


class StepTimes:
    """The clock after each step, a line each, to `times.csv`; what is there already stays."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._path, self._lines = folder / "times.csv", [""]

    def __call__(self, run: Any, step: int) -> None:
        self._lines.append(f"{step},{time.perf_counter():.6f}")

    def close(self) -> None:
        if self._path.parent.is_dir():
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n".join(self._lines))


def seconds_per_step(folder: Path) -> float:
    """Median of the time between two steps of one process; NaN where nothing was recorded.

    The median leaves out evaluations, checkpoints and the warm-up of the first steps.
    """
    path = folder / "times.csv"
    if not path.exists():
        return float("nan")
    found = np.array([line.split(",") for line in path.read_text().split("\n") if line], dtype=np.float64)
    found = found.reshape(-1, 2)
    apart = np.diff(found[:, 1])[np.diff(found[:, 0]) == 1]
    return float(np.median(apart[apart > 0])) if (apart > 0).any() else float("nan")
