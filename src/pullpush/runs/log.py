"""What a run writes down while it goes, a JSON mapping a line: log.jsonl and findings.jsonl."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pullpush.files import append_text, read_jsonl, write_text

__all__ = ["FINDINGS", "LOG", "append", "go_on", "keep_until", "read_log"]

LOG, FINDINGS = "log.jsonl", "findings.jsonl"


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; those that are damaged, as a last line cut off by a kill, are left out."""
    return read_jsonl(path, {"step": int})[0] if path.exists() else []


def keep_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Drops the lines after `step` and returns the others. A kill at any point leaves the old file or the new."""
    kept = [line for line in read_log(path) if line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept), go_on(path.parent))
    return kept


def append(path: Path, values: Mapping[str, Any]) -> None:
    """Adds a line to a log.

    Raises:
        UserError: the disk is full.
    """
    append_text(path, json.dumps(values) + "\n", go_on(path.parent))


def go_on(folder: Path) -> str:
    """What to do once a run folder can be written again."""
    return f"then go on with --resume {folder}"
