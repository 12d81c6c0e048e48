"""What attacks a server: each kind once, for the benchmark (`attack.py`) and the tests (`tests/server/test_attack.py`).

A kind is a function that makes what is sent and returns the attack, and stands in `ATTACKS`. An attack goes on until
its time is over, and returns how often it was answered what. Everything goes to 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import resource
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from PIL import Image

Answers = Counter[str]
Attack = Callable[[str, float], Awaitable[Answers]]
MANY = 700
"""Connections: more than a server with 1,024 files takes."""


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
    return data[:33] + _chunk(b"eXIf", body) + data[33:]


def many_frames(size: int) -> bytes:
    """A GIF of tiny frames."""
    data = encoded(Image.new("P", (4, 4)), "GIF")
    begin = data.index(b"\x2c")
    frame = data[begin:-1]
    return data[:begin] + frame * (size // len(frame)) + b"\x3b"


def large(seed: int = 0, side: int = 5000) -> bytes:
    """A PNG of 25 million pixels in about 75 KB; no two seeds are alike."""
    row = b"\0" + bytes(np.random.default_rng(seed).integers(0, 255, 3, dtype=np.uint8)) * side
    packer = zlib.compressobj(9)
    first, again = (packer.compress(row * 50) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    packed = first + again * (side // 50 - 1) + b"\3\0" + struct.pack(">I", zlib.adler32(row * (side // 50 * 50)))
    head = struct.pack(">IIBBBBB", side, side // 50 * 50, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@cache
def many_pixels() -> list[tuple[str, tuple[str, bytes]]]:
    """A form of 16 such images."""
    return [("images", ("x", large(seed))) for seed in range(16)]


# ---- many requests ---------------------------------------------------------------------------------------------------


def _repeated(clients: int, one: Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]) -> Attack:
    """`clients` at once, each sending one request after the other."""

    async def attack(url: str, seconds: float) -> Answers:
        answers: Answers = Counter()
        end = time.monotonic() + seconds

        async def client(http: httpx.AsyncClient, number: int) -> None:
            turn = 0
            while time.monotonic() < end:
                try:
                    async with asyncio.timeout(end - time.monotonic()):
                        answer = await one(http, number + clients * turn)
                    answers[str(answer.status_code)] += 1
                    if answer.status_code == 201:
                        answers["added"] += len(answer.json()["ids"])
                except httpx.HTTPError as error:
                    answers[type(error).__name__] += 1
                except TimeoutError:
                    answers["no answer yet"] += 1
                turn += 1
                await asyncio.sleep(0.01)

        async with httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=clients)) as http:
            await asyncio.gather(*(client(http, number) for number in range(clients)))
        return answers

    return attack


def _searching(clients: int, pictures: list[bytes]) -> Attack:
    """Searches by each of the images in turn; no two uploads are alike, or the cache would answer."""
    return _repeated(
        clients,
        lambda http, n: http.post("/api/search", files={"image": ("x", pictures[n % len(pictures)] + bytes(n % 250))}),
    )


def scans() -> Attack:
    """Progressive JPEGs with thousands of scans, of 30 KB and 10 MB, and some with as many as are let through."""
    return _searching(8, [many_scans(30_000), many_scans(300_000, 500), many_scans(10_000_000), costly_jpeg()])


def pixels() -> Attack:
    """Additions of 16 images of 25 million pixels each, 1.2 MB in all."""
    return _repeated(4, lambda http, n: http.post("/api/items", files=many_pixels()))


def frames() -> Attack:
    """GIFs of hundreds of thousands of frames, and PNGs whose EXIF gives 60,000 warnings."""
    return _searching(8, [many_frames(9_000_000), many_warnings()])


def methods() -> Attack:
    """Methods that nobody has heard of, each another one, and addresses of 20,000 letters."""
    return _repeated(8, lambda http, n: http.request(f"M{n}" + "X" * 2000, "/api/index?" + "x" * (n % 2 * 20_000)))


def maps() -> Attack:
    """The longest answer there is, and items that nobody has."""
    paths = ["/api/map", "/api/index", "/docs", "/metrics", "/api/search?like=0&label=" + "x" * 400]
    return _repeated(16, lambda http, n: http.get(paths[n % len(paths)]))


# ---- many connections ------------------------------------------------------------------------------------------------


One = Callable[[str, int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _held(count: int, one: One) -> Attack:
    """`count` connections held open, each anew once it was closed; `one` is told the host, and which it is."""

    async def attack(url: str, seconds: float) -> Answers:
        place, answers = urlsplit(url), Counter[str]()
        end = time.monotonic() + seconds

        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what is not read stays with the server
            sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(sock, (place.hostname, place.port))
                return await asyncio.open_connection(sock=sock)
            except BaseException:
                sock.close()
                raise

        async def client(number: int) -> None:
            while time.monotonic() < end:
                try:
                    reader, writer = await asyncio.wait_for(connect(), 5)
                except (OSError, TimeoutError):
                    answers["not connected"] += 1
                    await asyncio.sleep(0.5)
                    continue
                answers["connected"] += 1
                with contextlib.suppress(OSError, TimeoutError):
                    await asyncio.wait_for(one(place.netloc, number, reader, writer), max(end - time.monotonic(), 0.01))
                writer.close()
                await asyncio.sleep(0.1)

        await asyncio.gather(*(client(number) for number in range(count)))
        return answers

    return attack


def idle() -> Attack:
    """1,020 connections on which nothing is said."""

    async def silent(host: str, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    return _held(1020, silent)


def _request(method: str, path: str, host: str, rest: str = "\r\n") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{rest}".encode()


FORM = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000000\r\n\r\n"


async def _drip(writer: asyncio.StreamWriter) -> None:
    """A letter each half second."""
    while True:
        await writer.drain()
        await asyncio.sleep(0.5)
        writer.write(b"a")


async def _unread(host: str, writer: asyncio.StreamWriter) -> None:
    """The map asked for 50 times, and not read."""
    writer.write(_request("GET", "/api/map", host) * 50)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await _drip(writer)


def slow() -> Attack:
    """Heads that come in letter by letter, bodies of 10 MB that stop coming in, answers that are not read."""

    async def slowly(host: str, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number % 3 == 2:
            return await _unread(host, writer)
        body = _request("POST", "/api/search", host, FORM) + bytes(2_000_000)
        writer.write(body if number % 3 else _request("GET", "/api/index", host, "X-Slow: "))
        return await _drip(writer)

    return _held(MANY, slowly)


def stalled() -> Attack:
    """Bodies that are announced, and come in letter by letter: each holds a place, and next to no memory."""

    async def stalling(host: str, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_request("POST", "/api/search", host, FORM))
        await _drip(writer)

    return _held(MANY, stalling)


def unread() -> Attack:
    """Answers that nobody reads."""

    async def deaf(host: str, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _unread(host, writer)

    return _held(MANY, deaf)


def leavers() -> Attack:
    """Uploads of images of 25 million pixels, sent and not waited for."""
    form = httpx.Request("POST", "http://x", files=many_pixels())
    body = form.read()
    rest = f"Content-Type: {form.headers['content-type']}\r\nContent-Length: {len(body)}\r\n\r\n"

    async def leaving(host: str, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_request("POST", "/api/items", host, rest) + body)
        await writer.drain()
        await asyncio.sleep(0.3)

    return _held(8, leaving)


ATTACKS: dict[str, Callable[[], Attack]] = {
    each.__name__: each for each in (scans, pixels, frames, methods, maps, idle, slow, stalled, unread, leavers)
}


@cache
def _made(name: str) -> Attack:
    return ATTACKS[name]()


def prepare(name: str) -> None:
    """Makes what is sent, so that the attack begins at once."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files, min(most, 4096)), most))
    _made(name)


def run(name: str, url: str, seconds: float) -> Answers:
    """Attacks `url`."""
    return asyncio.run(_made(name)(url, seconds))
