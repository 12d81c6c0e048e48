"""The plan of the house: a room imports the rooms that docs/architecture.md allows, and no others."""

from pathlib import Path

from importlinter.cli import lint_imports

import pullpush


def test_rooms_import_only_what_they_may() -> None:
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0


def test_every_module_says_what_it_offers() -> None:
    modules = [path for path in Path(pullpush.__file__).parent.rglob("*.py") if not path.name.startswith("__")]
    assert modules
    assert [str(path) for path in modules if "\n__all__" not in path.read_text(encoding="utf-8")] == []
