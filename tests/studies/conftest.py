"""A study small enough for tests: real pictures, a real backbone without its weights, the head alone learns."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pullpush.data.synthetic import make_tree


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of runs of a second."""
    photos = make_tree("folder", tmp_path_factory.mktemp("photos") / "tree")
    return [
        f"--data={photos}",
        "--data.test=0.25",
        "--data.validation=0.25",
        "--encoder.weights=none",
        "--encoder.size=32",
        "--encoder.dim=8",
        "--batch.classes=3",
        "--batch.samples=3",
        "--steps=6",
        "--validate-every=3",
        "--checkpoint-every=2",
    ]


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Features of these tests stay among these tests."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("PULLPUSH_CACHE", str(folder))
    yield folder
    patch.undo()
