"""The plan of the house: a room imports the rooms that docs/architecture.md allows, and no others."""

import subprocess
import sys
from pathlib import Path

import pullpush


def test_rooms_import_only_what_they_may() -> None:
    # In a process of its own: the linter silences the loggers of the one that it runs in.
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ended = subprocess.run(lint, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout


def test_every_module_says_what_it_offers() -> None:
    modules = [path for path in Path(pullpush.__file__).parent.rglob("*.py") if not path.name.startswith("__")]
    assert modules
    assert [str(path) for path in modules if "\n__all__" not in path.read_text(encoding="utf-8")] == []
