"""Fixtures of the tests of search and server: a folder of images, an index of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullpush import search
from tests.support import running
from tests.support.fake import FakeModel, write_folder

__all__ = ["built", "index", "model", "nursery", "pictures"]


@pytest.fixture(scope="session", autouse=True)
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is noted with the user goes into a folder of the tests; the process that forks servers and writers ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULLPUSH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield
        running.close()


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 6 colours x 20 images, for tests that only read; its images lie in `images` beside it."""
    root = tmp_path_factory.mktemp("built")
    write_folder(root / "images", each=20)
    search.build_index(FakeModel(), root / "images", root / "index", projection="pca")
    return root / "index"


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    """A copy of `built` that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "index"))
