"""Processes for the tests: one imports everything, and then forks a child for each server or writer in no time."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support import ROOT


@dataclass
class Running:
    """`url` of the server, its process `pid`, and the file with what it logged."""

    url: str
    pid: int
    log: Path


@functools.cache
def nursery() -> subprocess.Popen[str]:
    """The process that forks; ended by `close`."""
    code = f"from {__name__} import forking\nforking()"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def close() -> None:
    """Ends the forking process, if there is one."""
    if nursery.cache_info().currsize:
        nursery().communicate(timeout=20)
        nursery.cache_clear()


def spawn(work: str, log: Path, **options: Any) -> int:
    """Starts `serve`, `build` or `hold` in a process of its own and returns its number. `log` gets what it prints."""
    process = nursery()
    process.stdin.write(json.dumps([work, str(log), options, dict(os.environ)]) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def wait_for(path: Path, pid: int, seconds: float = 120) -> str:
    """What process `pid` writes into `path`, once it has."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert psutil.pid_exists(pid), "the process ended"
        assert time.monotonic() < end, "the process does not start"
        time.sleep(0.01)
    return path.read_text()


def wait_end(pid: int, seconds: float = 60) -> None:
    """Waits until the process has ended."""
    end = time.monotonic() + seconds
    while psutil.pid_exists(pid):
        assert time.monotonic() < end, "the process does not end"
        time.sleep(0.005)


@contextmanager
def running(
    index: Path, log: Path, model: dict[str, Any] | None = None, wait: float | None = None, **options: Any
) -> Iterator[Running]:
    """Starts a server on a free port, and stops it with SIGTERM at the end; it must then end by itself. `wait`:
    seconds that it waits for another writer."""
    address = log.with_suffix(".url")
    pid = spawn("serve", log, index=str(index), model=model or {}, address=str(address), options=options, wait=wait)
    try:
        yield Running(wait_for(address, pid), pid, log)
        os.kill(pid, signal.SIGTERM)
        wait_end(pid)
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def forking() -> None:
    """The forking process: a line in, the number of a new process out. Children are reaped by the system."""
    import logging

    from pullpush import search, server
    from pullpush.search import embedding, layout
    from pullpush.server import app, service  # noqa: F401 - so that no child has to
    from tests.support.fake import FakeModel

    def put(path: str, text: str) -> None:
        Path(path + ".part").write_text(text)
        os.replace(path + ".part", path)

    def serve(index: str, model: dict, address: str, options: dict, wait: float | None = None) -> None:
        layout.WAIT = layout.WAIT if wait is None else wait
        server.serve(index, model=FakeModel(**model), port=0, ready=lambda url: put(address, url), **options)

    def build(source: str, out: str) -> None:
        embedding.CHUNK = 6
        search.build_index(FakeModel(), source, out, projection="pca")

    def hold(path: str, held: str) -> None:
        with layout.writer(Path(path)):
            put(held, "held")
            time.sleep(60)

    works = {"serve": serve, "build": build, "hold": hold}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for line in sys.stdin:
        work, log, options, environment = json.loads(line)
        child = os.fork()
        if child:
            print(child, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.update(environment)  # the tests may have changed it since
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        try:
            works[work](**options)
        except BaseException:
            logging.exception("%s failed", work)
        finally:
            logging.shutdown()
            os._exit(0)
