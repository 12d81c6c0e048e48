"""Serving, against the encoder alone: one image query at 60,000 items, and 16 clients that upload at once."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import statistics
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.measure import compare, result, seconds
from benchmarks.search import clustered
from pullpush import search
from pullpush.data.items import Items
from pullpush.encoders import ImageEncoder, load, save
from pullpush.search.engine import open_index
from pullpush.server.middleware import Rules
from pullpush.server.server import make_server
from pullpush.server.service import Service

ITEMS, CLIENTS = 60_000, 16


def run() -> list[dict[str, Any]]:
    """A row a measurement; the clients' latencies stand beside their share of an encoder that works without pause."""
    with tempfile.TemporaryDirectory() as folder:
        return serving(Path(folder))


def serving(folder: Path) -> list[dict[str, Any]]:
    """One image query at 60,000 items against the encoder alone; then 16 clients that upload to a server for a
    while."""
    save(folder / "model", ImageEncoder(weights="none"))
    model = load(folder / "model")
    index = _index(model, folder)
    engine = open_index(index, model)
    pictures = _pictures(64)
    turn = iter(range(10**9))

    def query() -> None:
        engine.query(image=pictures[next(turn) % 64], k=10, cut_off=None)

    def encode() -> None:
        model.embed([pictures[next(turn) % 64]])

    ours, other = compare(query, encode, repeats=61)
    rows = [result("serve/query/60000/encoder", ours * 1e3, other * 1e3, "ms")]
    batch = statistics.median(seconds(lambda: model.embed(pictures[:CLIENTS])) for _ in range(7)) / CLIENTS
    taken, wall = _clients(engine, pictures)
    p50, p99 = (float(np.quantile(taken, q)) * 1e3 for q in (0.5, 0.99))
    throughput, bound = len(taken) / wall, 1 / batch
    rows.append(result("serve/clients-16/p50", p50, CLIENTS * batch * 1e3, "ms"))
    rows.append(result("serve/clients-16/p99", p99, CLIENTS * batch * 1e3, "ms"))
    unit = "queries/s, other: the encoder in batches of 16"
    rows.append(
        {
            "name": "serve/clients-16/throughput",
            "ours": throughput,
            "other": bound,
            "unit": unit,
            "ratio": throughput / bound,
        }
    )
    return rows


class _Known:
    """The model with its embeddings of the items given, so that the index takes seconds; queries go to the encoder."""

    def __init__(self, model: Any, vectors: np.ndarray) -> None:
        self.fingerprint, self.dim, self.preprocessing, self.text = (
            model.fingerprint,
            model.dim,
            model.preprocessing,
            None,
        )
        self._vectors, self._model, self._given = vectors, model, 0

    def embed(self, images: Any, batch_size: int = 64) -> np.ndarray:
        first, self._given = self._given, self._given + len(images)
        # Beyond the items come the images of the calibration.
        return self._vectors[first : self._given] if self._given <= ITEMS else self._model.embed(images)


def _index(model: Any, folder: Path) -> Path:
    """60,000 items that share one tiny image."""
    Image.new("RGB", (8, 8), "white").save(folder / "white.png")
    table = pd.DataFrame({"path": str(folder / "white.png"), "label": 0}, index=range(ITEMS))
    boxes = {"x_1": np.arange(ITEMS) % 2, "y_1": 0, "x_2": 8, "y_2": 8 + np.arange(ITEMS) // 2}  # makes each its own
    items = Items(table.assign(**boxes), ["white"], "bench")
    search.build_index(_Known(model, clustered(ITEMS, model.dim)), items, folder / "index", projection="none")
    return folder / "index"


def _pictures(count: int, side: int = 96) -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)) for _ in range(count)]


def _clients(engine: Any, pictures: list[Image.Image], each: int = 40) -> tuple[list[float], float]:
    """Seconds of each request of 16 clients that upload different images, and seconds in all; over a real socket,
    the clients in a process of their own."""
    service = Service(engine)
    service.warm()
    server = make_server(service, Rules())
    server.config.port = 0
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/api/search"
    rng = np.random.default_rng(4)

    def upload() -> bytes:
        buffer = io.BytesIO()
        base = np.asarray(pictures[int(rng.integers(len(pictures)))]).copy()
        base[:8, :8] = rng.integers(0, 255, 3)  # no two uploads are alike, or the cache would answer
        Image.fromarray(base).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    uploads = [[upload() for _ in range(each)] for _ in range(CLIENTS)]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(_load, url, uploads).result()
    server.should_exit = True
    thread.join()
    return found


def _load(url: str, uploads: list[list[bytes]]) -> tuple[list[float], float]:
    """A client a list, each sending one request after the other."""
    taken = []

    async def client(http: httpx.AsyncClient, own: list[bytes]) -> None:
        for data in own:
            started = time.perf_counter()
            answer = await http.post(url, files={"image": ("x", data)}, data={"cut_off": "-10"})
            taken.append(time.perf_counter() - started)
            assert answer.status_code == 200, answer.text

    async def all_of_them() -> float:
        async with httpx.AsyncClient(timeout=60) as http:
            started = time.perf_counter()
            await asyncio.gather(*(client(http, own) for own in uploads))
            return time.perf_counter() - started

    wall = asyncio.run(all_of_them())
    return taken, wall
