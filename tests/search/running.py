"""A server in a process of its own, as users run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CODE = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
from pullpush import search
from {package}.fake import FakeModel
search.serve({index!r}, model=FakeModel(**{model!r}), port=0, ready=lambda url: print(url, flush=True), **{options!r})
"""


@dataclass
class Running:
    """`url` of the server, its process `pid`, and the file with what it logged."""

    url: str
    pid: int
    log: Path


@contextmanager
def running(index: Path, log: Path, model: dict | None = None, **options: object) -> Iterator[Running]:
    """Starts a server on a free port, and stops it with SIGTERM at the end; it must then end by itself."""
    package = __name__.rpartition(".")[0]
    code = CODE.format(package=package, index=str(index), model=model or {}, options=options)
    root = Path(__file__).parents[package.count(".") + 1]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http"), log.read_text()
        yield Running(url, process.pid, log)
        process.terminate()
        assert process.wait(20) in (0, -15), log.read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
