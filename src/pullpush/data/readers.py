"""Which function reads which data, by its place: help names their options without importing them."""

from pathlib import Path
from typing import Literal

__all__ = ["MANIFESTS", "PLACES", "Missing", "place_of"]

PLACES = {
    "emoji": "pullpush.data.emoji.read_emoji",
    "fashion-mnist": "pullpush.data.fashion_mnist.read_fashion_mnist",
    "sop": "pullpush.data.sop.read_sop",
    "inshop": "pullpush.data.inshop.read_inshop",
    "vehicleid": "pullpush.data.vehicleid.read_vehicleid",
    "cub": "pullpush.data.cub.read_cub",
    "cars": "pullpush.data.cars.read_cars",
}
"""Name -> reader. A reader is one function in one file; its keyword arguments are its options."""

MANIFESTS = (".csv", ".tsv", ".parquet")
# Whether listed images that do not exist are an error or left out.
Missing = Literal["error", "skip"]


def place_of(source: str) -> str:
    """The full name of the function that reads a source; its keyword arguments are the source's options."""
    if source in PLACES:
        return PLACES[source]
    manifest = Path(source).suffix.lower() in MANIFESTS
    return "pullpush.data.manifest.read_manifest" if manifest else "pullpush.data.folder.read_folder"
