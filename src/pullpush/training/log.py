"""What a run writes down while it goes: log.jsonl, a line a step, and TensorBoard's files."""

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["RunLog", "keep_until", "read_log"]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line cut off by a kill is left out."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def keep_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Drops the lines after `step` and returns the others. A kill at any point leaves the old file or the new."""
    kept = [line for line in read_log(path) if line["step"] <= step]
    beside = path.with_name(path.name + ".part")
    beside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    os.replace(beside, path)
    return kept


class RunLog:
    """Appends to `folder/log.jsonl`.

    Args:
        folder: the run folder.
        step: steps already done; later lines, of steps that will be done again, are dropped.
        tensorboard: write `folder/tensorboard` too.
        quiet: write nothing (ranks other than the first).
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool, quiet: bool = False) -> None:
        path = Path(os.devnull) if quiet else folder / "log.jsonl"
        if not quiet:
            keep_until(path, step)
        self._file = path.open("a", encoding="utf-8")
        self._board: Any = None
        if tensorboard and not quiet:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, number in values.items() if self._board else ():
            self._board.add_scalar(name, number, step)

    def close(self) -> None:
        """Flushes and closes."""
        self._file.close()
        if self._board:
            self._board.close()
