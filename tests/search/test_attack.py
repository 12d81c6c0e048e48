"""Short attacks of a server that runs: what is good is answered, memory comes back. The long ones, with figures:
`benchmarks/attack.py`."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.attack import large, many_scans
from pullpush import search
from pullpush.search.connections import Connections

from .hostile import good
from .running import running


def test_a_connection_that_says_nothing_makes_room(index: Path, tmp_path: Path) -> None:
    """As many silent ones as there may be open, and more: the next one is answered, the files do not run out."""
    with running(index, tmp_path / "log") as server:
        place, process = urlsplit(server.url), psutil.Process(server.pid)
        sockets = [socket.create_connection((place.hostname, place.port)) for _ in range(700)]
        try:
            assert httpx.get(f"{server.url}/api/search", params={"text": "red"}).status_code == 200
            assert process.num_fds() < 620
            sockets[0].settimeout(5)
            assert sockets[0].recv(1) == b""
        finally:
            for each in sockets:
                each.close()


def test_connections_have_a_time_to_send_and_to_read() -> None:
    class Fake:
        def __init__(self, silent: float, unread: float) -> None:
            self.said, self._silent, self._unread, self.transport = [], silent, unread, self

        def silent(self, now: float) -> float:
            return self._silent

        def unread(self, now: float) -> float:
            return self._unread

        def refuse(self, status: int, code: str, message: str) -> None:
            self.said.append(status)

        def abort(self) -> None:
            self.said.append("aborted")

        def drop(self) -> None:
            self.said.append("dropped")

    async def run() -> None:
        connections = Connections(most=4, silent=15, unread=60)
        quiet, late, stuck, working = Fake(1, 0), Fake(16, 0), Fake(0, 61), Fake(0, 0)
        for each in (working, late, stuck, quiet):
            connections.opened(each)
        connections.sweep()
        assert (quiet.said, late.said, stuck.said, working.said) == ([], [408], ["aborted"], [])
        connections.opened(Fake(0, 0))
        assert late.said == [408, "dropped"]
        full = Connections(most=1)
        full.opened(working)
        refused = Fake(0, 0)
        full.opened(refused)
        assert (working.said, refused.said, len(full)) == ([], ["dropped"], 1)

    asyncio.run(run())


def test_what_is_answered_503_does_not_happen(index: Path, tmp_path: Path) -> None:
    """Sixteen pictures of 25 million pixels in a time that is too short for them, and changes that come too late."""
    files = [("images", ("x", large(seed, 2500))) for seed in range(8)]
    with running(index, tmp_path / "log", timeout=0.5) as server:
        answer = httpx.post(f"{server.url}/api/items", files=files, timeout=60)
        assert answer.status_code == 503, answer.text
        with httpx.Client(base_url=server.url, timeout=60) as client:
            scans = client.post("/api/search", files={"image": ("x", many_scans(30_000))})
            assert scans.status_code == 413
            answers = [client.post("/api/items", files={"images": ("x", good("PNG", "red", n))}) for n in range(3)]
            added = sum(len(answer.json()["ids"]) for answer in answers if answer.status_code == 201)
        assert not list(index.glob("adding-*"))
    assert len(search.open(index)) == 120 + added
