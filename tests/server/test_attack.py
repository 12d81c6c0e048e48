"""Attacks of a server that runs: good requests are answered as ever, the server lives, memory comes back. Each kind of
`benchmarks/attackers.py`; with figures: `benchmarks/attack.py`."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from benchmarks.attack import attacked, attackers_pool, memory, report
from benchmarks.attackers import ATTACKS, large, many_scans
from pullpush import search
from pullpush.server.connections import Connections
from tests.support.hostile import good
from tests.support.running import Running, running

KEPT = 200e6
STOPPED = 60.0
"""Seconds: whoever waits longer waits for a server that has stopped."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with attackers_pool() as pool:
        yield pool


@pytest.fixture(scope="module")
def target(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("target")
    with running(Path(shutil.copytree(built, folder / "index")), folder / "log") as server:
        yield server


@pytest.mark.parametrize("seconds", [1.5, pytest.param(20.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ATTACKS)
def test_good_requests_are_answered_while_attacked(target: Running, pool: Executor, name: str, seconds: float) -> None:
    figures = attacked(target.url, target.pid, name, pool, seconds, target.log, rest=0.2)
    print(report(name, figures))
    end = time.monotonic() + STOPPED  # what was begun when the attackers left is still to end
    while memory(target.pid) - figures.before > KEPT:
        assert time.monotonic() < end, f"{figures.kept / 1e6:.0f} MB were kept"
        time.sleep(0.1)
    assert not figures.wrong
    assert len(figures.taken) == seconds * 10
    assert max(figures.taken) < STOPPED
    assert sum(figures.answers.values()), "the attack did not reach the server"
    assert figures.logged < 1e6
    assert "Traceback" not in target.log.read_text()


def test_a_connection_that_says_nothing_makes_room(index: Path, tmp_path: Path) -> None:
    """As many silent ones as there may be open, and more: the next one is answered, the files do not run out."""
    with running(index, tmp_path / "log") as server:
        place, process = urlsplit(server.url), psutil.Process(server.pid)
        begun = socket.create_connection((place.hostname, place.port), timeout=5)
        begun.sendall(b"GET /health HTTP/1.1\r\nHost: ")
        time.sleep(0.2)
        sockets = [begun, *(socket.create_connection((place.hostname, place.port)) for _ in range(700))]
        try:
            refused = b"".join(iter(lambda: begun.recv(1000), b""))  # it is told why, and when to come again
            assert refused.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 1\r\n" in refused
            assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"]["code"] == "busy"
            assert httpx.get(f"{server.url}/api/search", params={"text": "red"}).status_code == 200
            assert process.num_fds() < 620
            sockets[1].settimeout(5)
            assert sockets[1].recv(1) == b""
        finally:
            for each in sockets:
                each.close()


def test_connections_have_a_time_to_send_and_to_read() -> None:
    class Fake:
        def __init__(self, of: Connections, silent: float, unread: float) -> None:
            self.said, self._silent, self._unread, self.transport, self.of = [], silent, unread, self, of
            self.sent = False

        def has_sent(self) -> bool:
            return self.sent

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
            self.of.closed(self)

    async def run() -> None:
        connections = Connections(most=4, silent=15, unread=60)
        quiet, late, stuck, working = (Fake(connections, *held) for held in ((1, 0), (16, 0), (0, 61), (0, 0)))
        for each in (working, late, stuck, quiet):
            connections.opened(each)
        connections.working(working)
        connections.sweep()
        assert (quiet.said, late.said, stuck.said, working.said) == ([], [408], ["aborted"], [])
        connections.opened(Fake(connections, 0, 0))
        assert late.said == [408, "dropped"]
        connections.waiting(stuck)  # it had an answer, and is the last again
        connections.opened(Fake(connections, 0, 0))
        assert (stuck.said, quiet.said, working.said) == (["aborted"], ["dropped"], [])
        sending, deaf = Fake(connections, 0, 0), Fake(connections, 0, 1)
        connections._open |= {sending, deaf}
        connections.waiting(sending)
        connections.waiting(deaf, unread=True)
        connections.opened(Fake(connections, 0, 0))
        assert (sending.said, deaf.said) == ([], ["dropped"])
        asking, mute = Fake(connections, 0, 0), Fake(connections, 0, 0)
        few = Connections(most=2)
        asking.of = mute.of = few
        for each in (asking, mute):
            few.opened(each)
        asking.sent = True  # its request lies there, not yet read: the younger one that is silent goes first
        few.opened(Fake(few, 0, 0))
        assert (asking.said, mute.said) == ([], ["dropped"])
        full = Connections(most=1)
        working, refused = Fake(full, 0, 0), Fake(full, 0, 0)
        full.opened(working)
        full.working(working)
        full.opened(refused)
        assert (working.said, refused.said, len(full)) == ([], ["dropped"], 1)

    asyncio.run(run())


def test_what_is_answered_503_does_not_happen(index: Path, tmp_path: Path) -> None:
    """Sixteen images of 25 million pixels in a time that is too short for them, and changes that come too late."""
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
