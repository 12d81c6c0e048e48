"""Several writers, a folder that goes away, a disk that is full: what is answered, and what is left behind."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from pullpush import search
from pullpush.errors import UserError
from pullpush.search import layout
from pullpush.search.engine import open_index
from pullpush.search.errors import DiskFull
from pullpush.server.app import make_app
from pullpush.server.middleware import Rules
from pullpush.server.service import Service
from tests.support.fake import FakeModel, picture, write_folder
from tests.support.hostile import good
from tests.support.killing import killed_before
from tests.support.running import running, spawn, wait_end, wait_for


def send(client: httpx.Client, seed: int) -> httpx.Response:
    return client.post("/api/items", files=[("images", ("a", good("PNG", "red", seed)))], timeout=60)


def orphans(index: Path) -> set[str]:
    """Uploads that no item names, and versions that were not finished."""
    table = search.open(index, FakeModel()).version.table
    used = set(table.loc[table["origin"] == "upload", "path"])
    stored = {path.relative_to(index).as_posix() for path in (index / "uploads").glob("*")}
    unfinished = {path.name for path in (index / "versions").iterdir() if not path.name.isdigit()}
    assert used <= stored
    return (stored - used) | unfinished | {path.name for name in ("*.part", "adding-*") for path in index.glob(name)}


def health(client: httpx.Client, wanted: Callable[[dict[str, Any]], bool], seconds: float = 20) -> dict[str, Any]:
    """What /health says once it is as `wanted`."""
    end = time.monotonic() + seconds
    while not wanted(answer := client.get("/health").json()):
        assert time.monotonic() < end, answer
        time.sleep(0.05)
    return answer


def says_nothing_of_the_machine(answer: httpx.Response, index: Path, *pids: int) -> bool:
    words = {str(index), str(index.parent), index.parent.name, *(str(pid) for pid in pids)}
    assert set(answer.json()["error"]) == {"code", "message"}
    return not any(word in answer.text + str(answer.headers) for word in words)


def test_two_servers_add_to_one_index(index: Path, tmp_path: Path) -> None:
    with (
        running(index, tmp_path / "a.log", wait=50) as one,  # ten additions take long on a machine that is busy
        running(index, tmp_path / "b.log", wait=50) as two,
        httpx.Client(base_url=one.url) as first,
        httpx.Client(base_url=two.url) as second,
    ):
        clients = [first, second] * 5
        with ThreadPoolExecutor(len(clients)) as pool:
            answers = list(pool.map(send, clients, range(500, 500 + len(clients))))
        assert [answer.status_code for answer in answers] == [201] * len(clients)
        assert len({answer.json()["ids"][0] for answer in answers}) == len(clients)
        for client in (first, second):
            health(client, lambda said: said["items"] == 120 + len(clients))
    assert not orphans(index)


def test_an_index_that_is_being_written_answers_503_and_when_to_ask_again(index: Path, tmp_path: Path) -> None:
    holder = spawn("hold", tmp_path / "hold.log", path=str(index), held=str(tmp_path / "held"))
    try:
        wait_for(tmp_path / "held", holder)
        with running(index, tmp_path / "log", wait=0.2) as server, httpx.Client(base_url=server.url) as client:
            for answer in (send(client, 600), client.delete("/api/items/3")):
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["error"]["code"] == "being_written"
                assert says_nothing_of_the_machine(answer, index, holder, server.pid)
            assert client.get("/api/search", params={"text": "red"}).status_code == 200
            os.kill(holder, signal.SIGKILL)
            wait_end(holder)
            assert send(client, 600).status_code == 201
    finally:
        if holder and Path(f"/proc/{holder}").exists():
            os.kill(holder, signal.SIGKILL)


def republished(index: Path, change: Callable[[Path, dict[str, Any]], None]) -> None:
    """Publishes a version of whatever content, with checksums that are right."""
    folder, manifest = layout.current(index)
    number = manifest.version + 1
    new = index / layout.VERSIONS / f"{number:06d}"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(folder, new)
    record = json.loads((new / layout.RECORD).read_text()) | {"version": number}
    change(new, record)
    for name in record["files"]:
        raw = (new / name).read_bytes()
        record["files"][name] = {"bytes": len(raw), "sha256": sha256(raw).hexdigest()}
    raw = json.dumps(record).encode()
    (new / layout.RECORD).write_bytes(raw)
    (index / "next").write_text(f"{new.name} {sha256(raw).hexdigest()}\n")
    os.replace(index / "next", index / layout.POINTER)


BROKEN: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "an unknown field": lambda folder, record: record.update(colour="red"),
    "a table that is none": lambda folder, record: (folder / "items.parquet").write_bytes(b"PAR1 no"),
    "no table": lambda folder, record: ((folder / "items.parquet").unlink(), record["files"].pop("items.parquet")),
    "another model": lambda folder, record: record.update(fingerprint="0" * 64),
    "no rows": lambda folder, record: (folder / "rows.npy").write_bytes(b""),
    "a store that is none": lambda folder, record: record.update(store="redis://x"),
}


def test_a_follower_survives_what_it_cannot_read(index: Path, tmp_path: Path) -> None:
    """A real server follows versions that another process publishes, some of which cannot be opened."""
    whole = (index / layout.POINTER).read_bytes()
    with running(index, tmp_path / "log") as server, httpx.Client(base_url=server.url) as client:
        assert health(client, lambda said: True)["status"] == "ok"
        for name, change in BROKEN.items():
            republished(index, change)
            said = health(client, lambda said: said["status"] == "degraded")
            assert said["items"] == 120
            assert "version" in said["problem"]
            assert str(index.parent) not in json.dumps(said), name
            answer = client.get("/api/search", params={"text": "red"})
            assert {hit["label"] for hit in answer.json()["hits"]} == {"red"}
            (index / "next").write_bytes(whole)
            os.replace(index / "next", index / layout.POINTER)
            health(client, lambda said: said["status"] == "ok" and said["problem"] is None)
        search.remove(index, [7])
        assert health(client, lambda said: said["items"] == 119)["status"] == "ok"
    assert server.log.read_text().count("cannot be opened") == len(BROKEN), "once each, not once a second"


def test_a_deleted_index_does_not_come_back_as_a_stray_folder(index: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(index, tmp_path / "copy")
    with running(index, tmp_path / "log") as server, httpx.Client(base_url=server.url) as client:
        shutil.rmtree(index)
        for answer in (send(client, 700), client.delete("/api/items/3")):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "index_gone"
            assert says_nothing_of_the_machine(answer, index)
            assert not index.exists()
        assert client.get("/api/search", params={"text": "red"}).status_code == 200, "what is open stays readable"
        assert "gone" in health(client, lambda said: said["status"] == "degraded")["problem"]
        index.mkdir()
        assert send(client, 700).status_code == 503
        assert not list(index.iterdir())
        index.rmdir()
        os.rename(copy, index)
        health(client, lambda said: said["status"] == "ok")
        assert send(client, 700).status_code == 201
    with pytest.raises(UserError, match="no index"):
        search.remove(tmp_path / "nowhere", [1])
    assert not (tmp_path / "nowhere").exists()


def test_deleted_in_the_middle_of_an_addition(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel()
    model.embed = lambda images, **options: (shutil.rmtree(index), FakeModel().embed(images))[1]
    with pytest.raises(UserError, match="no index"):
        search.add(index, [picture("red", 1)], model)
    assert not index.exists()


# ---- a full disk ---------------------------------------------------------------------------------------------------

_refusing: Callable[[str, tuple[Any, ...]], None] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _refusing is not None:
        _refusing(event, arguments)


sys.addaudithook(_watch)  # there is no way to take a hook away


@pytest.fixture
def full(index: Path) -> Iterator[Callable[[int], list[int]]]:
    """`full(n)`: from now on the n-th place that writes below the folder's parent fails for want of space, and all
    after it. Returns a list of one number: how many places are left."""
    global _refusing

    def fail_at(number: int) -> list[int]:
        left = [number]

        def refuse(event: str, arguments: tuple[Any, ...]) -> None:
            writes = event in ("os.mkdir", "os.rename", "os.link") or (
                event == "open" and (int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            )
            place = str(arguments[1] if event == "os.link" else arguments[0])
            if writes and place.startswith(str(index)) and not place.endswith(layout.LOCK):
                left[0] -= 1
                if left[0] < 1:
                    raise OSError(errno.ENOSPC, "No space left on device", place)

        global _refusing
        _refusing = refuse
        return left

    yield fail_at
    _refusing = None


@pytest.mark.parametrize("work", ["add", "remove", "build"])
def test_a_disk_that_is_full_at_any_write(index: Path, work: str, full: Callable[[int], list[int]]) -> None:
    """Every place that opens a file for writing, makes a folder, links or renames, found by an audit hook."""
    global _refusing
    model, source = FakeModel(), Path(layout.current(index)[1].source)
    if work == "build":
        source = write_folder(index.parent / "source", each=3)
        search.build_index(model, source, index, projection="none", rebuild=True)
        write_folder(source, each=4)
    before = (index / layout.POINTER).read_text()
    works: dict[str, Callable[[], object]] = {
        "add": lambda: search.add(index, [picture("red", 900), picture("blue", 901)], model),
        "remove": lambda: search.remove(index, [2]),
        "build": lambda: search.build_index(model, source, index, projection="none"),
    }
    for number in range(1, 200):
        left = full(number)
        with suppress(DiskFull):
            works[work]()
        _refusing = None
        if left[0] > 0:
            break
        assert (index / layout.POINTER).read_text() == before
        assert not orphans(index)
    assert number > 8
    assert (index / layout.POINTER).read_text() != before
    assert not orphans(index)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB in memory; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip("a small file system can be mounted by root alone")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("kind", ["faiss:flat", "faiss:hnsw"])
def test_a_real_disk_that_is_full(small_disk: Path, tmp_path: Path, kind: str) -> None:
    """With every amount of free space from none to enough, in pages: refused without a trace, or done."""
    model, index = FakeModel(), small_disk / "index"
    search.build_index(model, write_folder(tmp_path / "images", each=2), index, store=kind, projection="none")
    ballast, done = small_disk / "ballast", 0
    for free in range(0, 400 * 1024, 12 * 1024):
        ballast.write_bytes(b"")
        status = os.statvfs(small_disk)
        with ballast.open("wb") as file:
            file.write(bytes(max(status.f_bavail * status.f_frsize - free, 0)))
        before = (index / layout.POINTER).read_text()
        try:
            search.add(index, [picture("red", 900 + free, side=64)], model)
            done += 1
        except DiskFull:
            assert (index / layout.POINTER).read_text() == before
        ballast.write_bytes(b"")
        assert not orphans(index)
        if done == 3:
            break
    assert done == 3
    assert free > 0


def ask(index: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> httpx.Response:
    """An addition that ends in `error`."""

    def fails(*given: object, **options: object) -> None:
        raise error

    async def run() -> httpx.Response:
        service = Service(open_index(index, FakeModel()))
        await service.start()
        monkeypatch.setattr("pullpush.search.layout.publishing", fails)
        transport = httpx.ASGITransport(make_app(service, Rules()), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.post("/api/items", files=[("images", ("a", good("PNG", "red", 1)))])
        await service.close()
        return answer

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/path"), 507, "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a/path"), 507, "disk_full"),
        (OSError(errno.EROFS, "Read-only file system", "/a/path"), 500, "internal"),
        (RuntimeError("a path: /a/path"), 500, "internal"),
        (UserError("/a/path is damaged"), 503, "unavailable"),
    ],
)
def test_every_error_is_json_and_names_no_path(
    index: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    answer = ask(index, monkeypatch, error)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert "/a/path" not in answer.text
    assert says_nothing_of_the_machine(answer, index)
    assert not orphans(index)


# ---- kill -9 -------------------------------------------------------------------------------------------------------


def test_what_a_killed_addition_leaves_is_cleaned_at_the_next_start(index: Path) -> None:
    """Killed before every flush and rename of an addition; then a server starts on it."""
    left_behind = step = 0
    killed = True
    while killed:
        step += 1
        killed = killed_before(step, partial(search.add, index, [picture("red", 900 + step)], FakeModel())) is None
        left_behind += killed and bool(orphans(index))
        search.tidy(index)
        assert not orphans(index)
    assert left_behind > 5


def test_a_server_that_was_killed_while_it_added(index: Path, tmp_path: Path) -> None:
    address, taken = tmp_path / "url", []
    pid = spawn("serve", tmp_path / "killed.log", index=str(index), model={}, address=str(address), options={})
    with httpx.Client(base_url=wait_for(address, pid)) as client, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(send, client, 1000 + number) for number in range(40)]
        while sum(each.done() for each in waiting) < 6:
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        wait_end(pid)
    for each in waiting:
        if not each.exception() and each.result().status_code == 201:
            taken += each.result().json()["ids"]
    (index / "uploads" / ("0" * 64 + ".png")).write_bytes(b"left by a killed writer")
    (index / "versions" / "000099.part").mkdir()
    with running(index, tmp_path / "log"):
        assert not orphans(index)
        assert taken
        assert set(taken) <= {*search.open(index, FakeModel()).version.table["id"]}, "what was acknowledged is there"
