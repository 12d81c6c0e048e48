"""A server under attack: how long good requests take meanwhile, and what of its memory does not come back.

The promise is 2 s for 99 of 100 good requests and at most 200 MB; it stands as `other`. Everything goes to 127.0.0.1
and ends after a given time. Server, its decoders, the attackers (a process) and the good clients (another) share the
cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
from PIL import Image

SECONDS = 20.0
PROMISE_S, PROMISE_BYTES = 2.0, 200e6
RATE = 10
"""Good requests a second."""


# ---- what is sent ----------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def many_scans(size: int, side: int = 1000) -> bytes:
    """A progressive JPEG whose last scan is there again and again, until it has about `size` bytes."""
    data = encoded(Image.new("RGB", (side, side), (200, 30, 40)), "JPEG", progressive=True, quality=50)
    begin, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    return data[:begin] + data[begin:end] * max(1, (size - begin) // (end - begin)) + data[end:]


def costly_jpeg(scans: int = 60, side: int = 4900) -> bytes:
    """As many scans and pixels as are let through."""
    data = encoded(Image.new("RGB", (side, side), (20, 130, 40)), "JPEG", progressive=True, quality=50)
    begin, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    return data[:begin] + data[begin:end] * (scans - data.count(b"\xff\xda")) + data[begin:]


def many_warnings(count: int = 60_000) -> bytes:
    """A PNG whose EXIF has `count` entries that point to nowhere; Pillow warns of each."""
    entries = b"".join(struct.pack("<HHII", 256 + n % 60_000, 2, 100, 0x7FFFFFF0) for n in range(count))
    body = b"II*\x00" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 0)
    data = encoded(Image.new("RGB", (64, 64), "red"), "PNG")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    return data[:33] + chunk + data[33:]


def many_frames(size: int) -> bytes:
    """A GIF of tiny frames."""
    data = encoded(Image.new("P", (4, 4)), "GIF")
    begin = data.index(b"\x2c")
    frame = data[begin:-1]
    return data[:begin] + frame * (size // len(frame)) + b"\x3b"


def large(seed: int = 0, side: int = 5000) -> bytes:
    """25 million pixels in about 75 KB; no two seeds are alike."""
    return encoded(Image.new("RGB", (side, side), tuple(np.random.default_rng(seed).integers(0, 255, 3))), "PNG")


# ---- attacks: each goes on until the time is over, and returns how often what was answered --------------------------


Answers = Counter[str]
Attack = Callable[[str, float], Awaitable[Answers]]


async def _repeated(url: str, seconds: float, clients: int, one: Callable[..., Awaitable[httpx.Response]]) -> Answers:
    answers: Answers = Counter()
    end = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients)

    async def client(http: httpx.AsyncClient, number: int) -> None:
        turn = 0
        while time.monotonic() < end:
            try:
                answer = await one(http, number + clients * turn)
                answers[str(answer.status_code)] += 1
                if answer.status_code == 201:
                    answers["added"] += len(answer.json()["ids"])
            except httpx.HTTPError as error:
                answers[type(error).__name__] += 1
            turn += 1
            await asyncio.sleep(0.01)

    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
        await asyncio.gather(*(client(http, number) for number in range(clients)))
    return answers


async def scans(url: str, seconds: float) -> Answers:
    """Progressive JPEGs with thousands of scans, of 30 KB and 10 MB, and some with as many as are let through."""
    pictures = [many_scans(30_000), many_scans(300_000, 500), many_scans(10_000_000), costly_jpeg()]
    return await _repeated(
        url,
        seconds,
        8,
        lambda http, n: http.post("/api/search", files={"image": ("x", pictures[n % 4] + bytes(n % 250))}),
    )


async def pixels(url: str, seconds: float) -> Answers:
    """Additions of 16 pictures of 25 million pixels each, 1.2 MB in all."""
    pictures = [large(seed) for seed in range(16)]
    files = [("images", ("x", picture)) for picture in pictures]
    return await _repeated(url, seconds, 4, lambda http, n: http.post("/api/items", files=files))


async def frames(url: str, seconds: float) -> Answers:
    """GIFs of hundreds of thousands of frames, and PNGs whose EXIF gives 60,000 warnings."""
    pictures = [many_frames(9_000_000), many_warnings()]
    return await _repeated(
        url,
        seconds,
        8,
        lambda http, n: http.post("/api/search", files={"image": ("x", pictures[n % 2] + bytes(n % 250))}),
    )


async def methods(url: str, seconds: float) -> Answers:
    """Methods that nobody has heard of, each another one, and addresses of 20,000 letters."""
    return await _repeated(
        url, seconds, 8, lambda http, n: http.request(f"M{n}" + "X" * 2000, "/api/index?" + "x" * (n % 2 * 20_000))
    )


async def maps(url: str, seconds: float) -> Answers:
    """The longest answer there is, and items that nobody has."""
    paths = ["/api/map", "/api/index", "/docs", "/metrics", "/api/search?like=0&label=" + "x" * 400]
    return await _repeated(url, seconds, 16, lambda http, n: http.get(paths[n % len(paths)]))


async def _held(url: str, seconds: float, count: int, one: Callable[..., Awaitable[None]]) -> Answers:
    """`count` connections held open, each anew once it was closed."""
    place, answers = urlsplit(url), Counter[str]()
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        while time.monotonic() < end:
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(place.hostname, place.port), 5)
            except (OSError, TimeoutError):
                answers["not connected"] += 1
                await asyncio.sleep(0.5)
                continue
            answers["connected"] += 1
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(one(number, reader, writer), max(end - time.monotonic(), 0.01))
            writer.close()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(client(number) for number in range(count)))
    return answers


async def idle(url: str, seconds: float) -> Answers:
    """1,020 connections on which nothing is said."""

    async def silent(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    return await _held(url, seconds, 1020, silent)


async def slow(url: str, seconds: float) -> Answers:
    """700 connections: heads that come in letter by letter, bodies of 10 MB that stop coming in, answers that are not
    read."""
    host = urlsplit(url).netloc.encode()
    kinds = (
        b"GET /api/index HTTP/1.1\r\nHost: " + host + b"\r\nX-Slow: ",
        b"POST /api/search HTTP/1.1\r\nHost: "
        + host
        + b"\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000000\r\n\r\n"
        + bytes(2_000_000),
        (b"GET /api/map HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") * 50,
    )

    async def dripping(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=1 << 16)
        writer.write(kinds[number % 3])
        while number % 3 < 2:
            await writer.drain()
            await asyncio.sleep(0.5)
            writer.write(b"a")
        writer.transport.pause_reading()
        await asyncio.sleep(3600)

    return await _held(url, seconds, 700, dripping)


async def leavers(url: str, seconds: float) -> Answers:
    """Uploads of pictures of 25 million pixels, sent and not waited for."""
    form = httpx.Request("POST", url, files=[("images", ("x", large(n))) for n in range(16)])
    body = form.read()
    place = urlsplit(url)
    head = f"POST /api/items HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {form.headers['content-type']}\r\n"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def leaving(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole)
        await writer.drain()
        await asyncio.sleep(0.3)

    return await _held(url, seconds, 8, leaving)


ATTACKS: dict[str, Attack] = {
    "scans": scans,
    "pixels": pixels,
    "frames": frames,
    "methods": methods,
    "maps": maps,
    "idle": idle,
    "slow": slow,
    "leavers": leavers,
}


# ---- what is measured ------------------------------------------------------------------------------------------------


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


def attacked(
    url: str, pid: int, name: str, seconds: float = SECONDS, log: Path | None = None, rest: float = 5.0
) -> Figures:
    """Figures of one attack. Afterwards the server has `rest` seconds to come to rest."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(time.sleep, 0).result()
        figures = Figures(before=memory(pid))
        size = log.stat().st_size if log else 0
        items = httpx.get(f"{url}/health").json()["items"]
        attack = pool.submit(_attack, name, url, seconds)
        asyncio.run(_good_requests(url, pid, seconds, figures))
        figures.answers = attack.result()
        time.sleep(rest)
        figures.after = memory(pid)
        figures.logged = log.stat().st_size - size if log else 0
        figures.grown = httpx.get(f"{url}/health", timeout=30).json()["items"] - items
    return figures


def _attack(name: str, url: str, seconds: float) -> Answers:
    return asyncio.run(ATTACKS[name](url, seconds))


async def _good_requests(url: str, pid: int, seconds: float, figures: Figures) -> None:
    """`RATE` a second, whether or not those before were answered: uploads of a photograph, searches by an item,
    thumbnails, descriptions."""
    rng = np.random.default_rng(7)
    noise = Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).resize((1024, 768))
    photograph = encoded(noise, "JPEG", quality=85)

    async def one(http: httpx.AsyncClient, number: int) -> None:
        started = time.monotonic()
        for attempt in range(2):
            try:
                if number % 4 == 0:  # no two uploads are alike, or the cache would answer
                    files = {"image": ("x", photograph + bytes(1 + number))}
                    answer = await http.post("/api/search", files=files, data={"cut_off": "-10"})
                else:
                    answer = await http.get(("/api/search?like=3", "/api/items/5/thumbnail", "/api/index")[number % 3])
            except httpx.TransportError as error:
                if attempt:
                    figures.wrong.append(type(error).__name__)
                continue  # as browsers do where a connection that was kept is closed
            if answer.status_code != 200:
                figures.wrong.append(f"{number % 4} {answer.status_code} {answer.text[:200]}")
            break
        figures.taken.append(time.monotonic() - started)

    tasks = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        for number in range(int(seconds * RATE)):
            tasks.append(asyncio.create_task(one(http, number)))
            if number % 3 == 0:
                figures.most = max(figures.most, memory(pid))
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(*tasks)


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def run() -> list[dict[str, Any]]:
    """Two rows an attack, after the attack of that name: p99 of the good requests, and memory that was kept."""
    from benchmarks.measure import result
    from benchmarks.serve import _index
    from pullpush.encoders import ImageEncoder, load, save

    rows = []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        save(folder / "model", ImageEncoder(weights="none"))
        index = _index(load(folder / "model"), folder)
        for name in ATTACKS:
            log = folder / f"{name}.log"
            with serving(index, folder / "model", log) as (url, pid):
                attacked(url, pid, "maps", 2.0)  # what fills once and stays is not the attack's
                figures = attacked(url, pid, name, log=log)
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
        "from pullpush.search import serve\n"
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
