"""A server under attack: how long good requests take meanwhile, and what of its memory does not come back.

The promise is 2 s for 99 of 100 good requests and at most 200 MB; it stands as `other`. Server, its decoders, the
attackers (a process, `attackers.py`) and the good clients (another) share the cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from benchmarks import attackers
from benchmarks.attackers import ATTACKS, Answers, encoded

SECONDS = 20.0
PROMISE_S, PROMISE_BYTES = 2.0, 200e6
RATE = 10
"""Good requests a second."""


@dataclass
class Figures:
    """Seconds of the good requests, and what went wrong with them; bytes of the server and its decoders before, at
    most, and afterwards; items that came in; bytes that were logged; what the attackers were answered."""

    taken: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    before: int = 0
    most: int = 0
    after: int = 0
    grown: int = 0
    logged: int = 0
    answers: Answers = field(default_factory=Counter)

    @property
    def median(self) -> float:
        return float(np.median(self.taken))

    @property
    def p99(self) -> float:
        return float(np.quantile(self.taken, 0.99))

    @property
    def kept(self) -> int:
        return self.after - self.before


def memory(pid: int) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [(parent := psutil.Process(pid)), *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def attackers_pool() -> ProcessPoolExecutor:
    """The process that attacks."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def attacked(
    url: str, pid: int, name: str, pool: Executor, seconds: float = SECONDS, log: Path | None = None, rest: float = 5.0
) -> Figures:
    """Figures of one attack. Afterwards the server has `rest` seconds to come to rest."""
    pool.submit(attackers.prepare, name).result()
    good = Good(url, pid)
    asyncio.run(good.learn())
    figures = Figures(before=memory(pid))
    size = log.stat().st_size if log else 0
    attack = pool.submit(attackers.run, name, url, seconds)
    asyncio.run(good.ask(seconds, figures))
    figures.answers = attack.result()
    time.sleep(rest)
    figures.after = memory(pid)
    figures.logged = log.stat().st_size - size if log else 0
    figures.grown = httpx.get(f"{url}/health", timeout=30).json()["items"] - good.items
    return figures


class Good:
    """Good requests: uploads of a photograph, searches by an item, thumbnails, descriptions; each must be answered as
    it was when nobody attacked."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self.pid, self.items = url, pid, 0
        noise = np.random.default_rng(7).integers(0, 255, (96, 128, 3), dtype=np.uint8)
        self.photograph = encoded(Image.fromarray(noise).resize((1024, 768)), "JPEG", quality=85)
        self.known: list[Any] = []

    async def learn(self) -> None:
        """Asks each kind once."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            self.items = (await http.get("/health")).json()["items"]
            self.known = [self._content(number, await self._one(http, number)) for number in range(4)]

    async def ask(self, seconds: float, figures: Figures) -> None:
        """`RATE` a second, whether or not those before were answered."""
        tasks = []
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            for number in range(int(seconds * RATE)):
                tasks.append(asyncio.create_task(self._timed(http, number, figures)))
                if number % 3 == 0:
                    figures.most = max(figures.most, memory(self.pid))
                await asyncio.sleep(1 / RATE)
            await asyncio.gather(*tasks)

    async def _timed(self, http: httpx.AsyncClient, number: int, figures: Figures) -> None:
        started = time.monotonic()
        for attempt in range(2):
            try:
                answer = await self._one(http, number)
            except httpx.TransportError as error:
                if attempt:
                    figures.wrong.append(type(error).__name__)
                continue  # as browsers do where a connection that was kept is closed
            if answer.status_code != 200:
                figures.wrong.append(f"{number % 4} {answer.status_code} {answer.text[:200]}")
            elif self._content(number, answer) != self.known[number % 4]:
                figures.wrong.append(f"{number % 4} another answer")
            break
        figures.taken.append(time.monotonic() - started)

    async def _one(self, http: httpx.AsyncClient, number: int) -> httpx.Response:
        if number % 4 == 0:  # no two uploads are alike, or the cache would answer
            files = {"image": ("x", self.photograph + bytes(1 + number))}
            return await http.post("/api/search", files=files)
        return await http.get(("/api/search?like=3", "/api/items/5/thumbnail", "/api/index")[number % 4 - 1])

    def _content(self, number: int, answer: httpx.Response) -> Any:
        """What must be the same while others add items."""
        if number % 4 == 2:
            return answer.content
        if number % 4 == 3:
            return answer.json()["name"]
        return [hit["id"] for hit in answer.json()["hits"] if hit["id"] < self.items][:5]


def run() -> list[dict[str, Any]]:
    """Two rows an attack, after the attack of that name: p99 of the good requests, and memory that was kept."""
    from benchmarks.measure import result
    from benchmarks.serve import _index
    from pullpush.encoders import ImageEncoder, load, save

    rows = []
    with tempfile.TemporaryDirectory() as root, attackers_pool() as pool:
        folder = Path(root)
        save(folder / "model", ImageEncoder(weights="none"))
        index = _index(load(folder / "model"), folder)
        for name in ATTACKS:
            log = folder / f"{name}.log"
            with serving(index, folder / "model", log) as (url, pid):
                attacked(url, pid, "maps", pool, 2.0)  # what fills once and stays is not the attack's
                figures = attacked(url, pid, name, pool, log=log)
            print(report(name, figures))
            rows.append(result(f"attack/{name}/p99", figures.p99, PROMISE_S, "s"))
            rows.append(result(f"attack/{name}/memory", max(figures.kept, 1e6) / 1e6, PROMISE_BYTES / 1e6, "MB"))
            if figures.wrong:
                print(f"  these good requests went wrong: {Counter(figures.wrong).most_common(3)}")
    return rows


def report(name: str, figures: Figures) -> str:
    """A line a figure."""
    return (
        f"{name}: {len(figures.taken)} good requests, median {figures.median * 1e3:.0f} ms, p99 {figures.p99:.2f} s, "
        f"slowest {max(figures.taken):.2f} s, {len(figures.wrong)} went wrong; memory {figures.before / 1e6:.0f} MB "
        f"before, at most {figures.most / 1e6:.0f}, {figures.after / 1e6:.0f} after; {figures.grown} items came in; "
        f"{figures.logged / 1e3:.0f} KB logged; the attackers were answered {dict(figures.answers)}"
    )


@contextlib.contextmanager
def serving(index: Path, model: Path, log: Path) -> Any:
    """A server in a process of its own, with 1,024 files as a shell gives them: its address and its number."""
    address = log.with_suffix(".url")
    code = (
        "import resource, sys, pathlib, torch\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))\n"
        "torch.set_num_threads(1)\n"
        "from pullpush.server import serve\n"
        "put = lambda url: pathlib.Path(sys.argv[3]).write_text(url)\n"
        "serve(sys.argv[1], model=sys.argv[2], port=0, ready=put)\n"
    )
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(index), str(model), str(address)], stdout=file, stderr=file
        )
    try:
        end = time.monotonic() + 120
        while not address.exists() or not address.read_text():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(log.read_text()[-2000:])
            time.sleep(0.05)
        yield address.read_text(), process.pid
    finally:
        os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
