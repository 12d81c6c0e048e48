"""The plan of the house: a room imports the rooms that docs/architecture.md allows, and no others."""

from importlinter.cli import lint_imports


def test_rooms_import_only_what_they_may() -> None:
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0
