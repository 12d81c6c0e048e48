"""Which function reads which data, by its place: help names their options without importing them."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

__all__ = ["MANIFESTS", "PLACES", "Missing", "gathered", "imported", "place_of"]

PLACES: Mapping[str, str] = {
    file.stem.replace("_", "-"): f"pullpush.data.sets.{file.stem}.read_{file.stem}"
    for file in sorted(Path(__file__).with_name("sets").glob("[!_]*.py"))
}
"""Name -> reader, of each file in `sets/`. The keyword arguments of a reader are its options."""

MANIFESTS = (".csv", ".tsv", ".parquet")
# Whether listed images that do not exist are an error or left out.
Missing = Literal["error", "skip"]


def place_of(source: str) -> str:
    """The full name of the function that reads a source; its keyword arguments are the source's options."""
    if source in PLACES:
        return PLACES[source]
    manifest = Path(source).suffix.lower() in MANIFESTS
    return "pullpush.data.manifest.read_manifest" if manifest else "pullpush.data.folder.read_folder"


def imported(place: str) -> Any:
    """What has this full name."""
    module, _, name = place.rpartition(".")
    return vars(importlib.import_module(module)).get(name)


def gathered(constant: str) -> dict[str, Any]:
    """The mappings that files in `sets/` have under one name, as one mapping."""
    places = (f"{place.rpartition('.')[0]}.{constant}" for place in PLACES.values())
    return {name: value for place in places for name, value in (imported(place) or {}).items()}
