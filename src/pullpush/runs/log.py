"""What a run writes down while it goes: log.jsonl, a line a step."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pullpush.files import append_text, read_jsonl, unwritable, write_text

__all__ = ["FINDINGS", "LOG", "RunLog", "append", "keep_until", "read_log"]

LOG, FINDINGS = "log.jsonl", "findings.jsonl"


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; those that are damaged, as a last line cut off by a kill, are left out."""
    return read_jsonl(path, {"step": int})[0] if path.exists() else []


def keep_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Drops the lines after `step` and returns the others. A kill at any point leaves the old file or the new."""
    kept = [line for line in read_log(path) if line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept), _then(path))
    return kept


def append(path: Path, values: dict[str, Any]) -> None:
    """Adds a line to a log.

    Raises:
        UserError: the disk is full.
    """
    append_text(path, json.dumps(values) + "\n", _then(path))


def _then(path: Path) -> str:
    return f"then go on with --resume {path.parent}"


class RunLog:
    """Appends to `folder/log.jsonl`.

    Args:
        folder: the run folder.
        step: steps already done; later lines, of steps that will be done again, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / LOG
        keep_until(self._path, step)
        self._file = self._path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line.

        Raises:
            UserError: the disk is full.
        """
        self._try(lambda: self._file.write(json.dumps({"step": step, **values}) + "\n"))
        self._try(self._file.flush)

    def close(self) -> None:
        """Flushes and closes.

        Raises:
            UserError: the disk is full.
        """
        self._try(self._file.close)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            raise unwritable(self._path, error, _then(self._path)) from error
