"""A folder of images, an index of it, and a Milvus server for those tests that ask for one."""

from __future__ import annotations

import fcntl
import importlib.util
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullpush import search

from . import running
from .fake import FakeModel, write_folder


@pytest.fixture(scope="session", autouse=True)
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is noted with the user goes into a folder of the tests; the process that forks servers and writers ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULLPUSH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))  # the same in tests/server
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


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Milvus server, started from the package `milvus` and stopped at the end."""
    if importlib.util.find_spec("milvus") is None or importlib.util.find_spec("pymilvus") is None:
        pytest.skip("the packages milvus and pymilvus are not installed (pip install 'pullpush[milvus]')")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the package milvus holds a server for x86-64 Linux only")
    from milvus import MilvusServer, MilvusServerConfig

    server = MilvusServer(MilvusServerConfig(data_dir=str(tmp_path_factory.mktemp("milvus"))))
    # One a machine: whatever the configuration says, its etcd listens on port 2380.
    with open(tmp_path_factory.getbasetemp().parent / "milvus.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server.start()
        try:
            yield f"milvus://127.0.0.1:{server.listen_port}"
        finally:
            server.stop()
