"""Search and serving, against bare FAISS and against the encoder alone.

Vectors are clustered as embeddings are (a cluster for 100 of them, in directions whose variance falls), as
neither
graphs nor recall mean anything on uniform noise. Every pair is measured in turns, in one process, and medians are
compared.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
from measure import compare, result, seconds
from PIL import Image

from pullpush import search
from pullpush.data.items import Items
from pullpush.encoders import ImageEncoder, load, save
from pullpush.search.app import make_app
from pullpush.search.engine import open_index
from pullpush.search.guard import Rules
from pullpush.search.service import Service
from pullpush.search.stores import Change, open_store
from pullpush.search.stores.base import FILTERS

ROWS, DIM, ITEMS, CLIENTS = 1_000_000, 128, 60_000, 16


def run() -> list[dict[str, Any]]:
    """A row a measurement: name, ours, other, unit and ratio = other / ours (larger is better for us)."""
    vectors = clustered(ROWS, DIM)
    with tempfile.TemporaryDirectory() as folder:
        rows = [*flat(vectors, Path(folder)), *hnsw(vectors, Path(folder))]
    del vectors
    with tempfile.TemporaryDirectory() as folder:
        rows += serving(Path(folder))
    return rows


def flat(vectors: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """Our exact store against `faiss.IndexFlatIP`, for one query and for 64."""
    view = _store("faiss:flat", vectors, folder / "flat")
    bare = faiss.IndexFlatIP(vectors.shape[1])
    bare.add(vectors)
    rows = []
    for count in (1, 64):
        queries = _queries(vectors, count)
        ours, other = compare(lambda q=queries: view.search(q, 10), lambda q=queries: bare.search(q, 10))
        same = np.mean(view.search(queries, 10)[1] == bare.search(queries, 10)[1])
        assert same > 0.99, f"only {same:.3f} of the answers are those of FAISS"
        name = f"search/flat/{len(vectors)}x{vectors.shape[1]}/faiss"
        rows.append(result(name if count == 1 else f"{name}/batch-{count}", ours * 1e3, other * 1e3, "ms"))
    return rows


def hnsw(vectors: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """Our HNSW store against exact search by FAISS, queries in batches of 64; and the recall@10 of 500 queries."""
    started = time.perf_counter()
    view = _store("faiss:hnsw", vectors, folder / "hnsw")
    built = time.perf_counter() - started
    bare = faiss.IndexFlatIP(vectors.shape[1])
    bare.add(vectors)
    name = f"search/hnsw/{len(vectors)}x{vectors.shape[1]}"
    rows = []
    for count in (1, 64):
        queries = _queries(vectors, count)
        ours, other = compare(lambda q=queries: view.search(q, 10), lambda q=queries: bare.search(q, 10))
        rows.append(result(f"{name}/flat" if count == 64 else f"{name}/flat/one", ours * 1e3, other * 1e3, "ms"))
    queries = _queries(vectors, 500, seed=9)
    truth = np.argpartition(-(queries @ vectors.T), 10, axis=1)[:, :10]
    found = view.search(queries, 10)[1]
    recall = float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)]))
    rows.append(
        {"name": f"{name}/recall@10", "ours": recall, "other": 0.95, "unit": "fraction", "ratio": recall / 0.95}
    )
    rows.append({"name": f"{name}/build", "ours": built, "other": built, "unit": "s", "ratio": 1.0})
    return rows


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
    taken, wall = asyncio.run(_clients(engine, pictures))
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


def clustered(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around unit centres (one for 100 rows); the variance of the k-th direction falls as 1 / k."""
    rng = np.random.default_rng(seed)
    spread = 1 / np.sqrt(np.arange(1, dim + 1, dtype=np.float32))
    centres = rng.standard_normal((max(rows // 100, 1), dim), dtype=np.float32) * spread
    vectors = np.empty((rows, dim), np.float32)
    for start in range(0, rows, 100_000):
        part = vectors[start : start + 100_000]
        part[:] = centres[rng.integers(len(centres), size=len(part))]
        part += 0.5 * spread * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def _queries(vectors: np.ndarray, count: int, seed: int = 5) -> np.ndarray:
    """Items, turned a little."""
    rng = np.random.default_rng(seed)
    queries = vectors[rng.integers(len(vectors), size=count)]
    noise = rng.standard_normal(queries.shape, dtype=np.float32)
    queries = queries + 0.3 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True)


def _store(url: str, vectors: np.ndarray, folder: Path) -> Any:
    folder.mkdir()
    columns = pd.DataFrame({name: [""] * len(vectors) for name in FILTERS})
    change = Change(np.arange(len(vectors)), vectors, columns, np.zeros(0, np.int64))
    open_store(url).stage(folder, 1, change, None)
    return open_store(url).open(folder, 1)


class _Known:
    """The model with its embeddings of the items given, so that the index takes seconds; queries go to the encoder."""

    def __init__(self, model: Any, vectors: np.ndarray) -> None:
        self.fingerprint, self.dim, self.preprocessing, self.text = (
            model.fingerprint,
            model.dim,
            model.preprocessing,
            None,
        )
        self._vectors = iter(vectors)

    def embed(self, images: Any, batch_size: int = 64) -> np.ndarray:
        return np.array([next(self._vectors) for _ in images])


def _index(model: Any, folder: Path) -> Path:
    """60,000 items that share one tiny picture."""
    Image.new("RGB", (8, 8), "white").save(folder / "white.png")
    table = pd.DataFrame({"path": str(folder / "white.png"), "label": 0}, index=range(ITEMS))
    boxes = {"x_1": np.arange(ITEMS) % 2, "y_1": 0, "x_2": 8, "y_2": 8 + np.arange(ITEMS) // 2}  # makes each its own
    items = Items(table.assign(**boxes), ["white"], "bench")
    search.build_index(_Known(model, clustered(ITEMS, model.dim)), items, folder / "index", projection="none")
    return folder / "index"


def _pictures(count: int, side: int = 96) -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)) for _ in range(count)]


async def _clients(engine: Any, pictures: list[Image.Image], each: int = 40) -> tuple[list[float], float]:
    """Seconds of each request of 16 clients that upload different pictures, and seconds in all; over a real socket."""
    import io

    import httpx
    import uvicorn

    service = Service(engine)
    service.warm()
    config = uvicorn.Config(make_app(service, Rules()), port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        await asyncio.sleep(0.02)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/api/search"
    rng, seconds = np.random.default_rng(4), []

    def upload() -> bytes:
        buffer = io.BytesIO()
        base = np.asarray(pictures[int(rng.integers(len(pictures)))]).copy()
        base[:8, :8] = rng.integers(0, 255, 3)  # no two uploads are alike, or the cache would answer
        Image.fromarray(base).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    async def client(http: httpx.AsyncClient, uploads: list[bytes]) -> None:
        for data in uploads:
            started = time.perf_counter()
            answer = await http.post(url, files={"image": ("x", data)}, data={"cut_off": "-10"})
            seconds.append(time.perf_counter() - started)
            assert answer.status_code == 200, answer.text

    uploads = [[upload() for _ in range(each)] for _ in range(CLIENTS)]
    async with httpx.AsyncClient(timeout=60) as http:
        started = time.perf_counter()
        await asyncio.gather(*(client(http, part) for part in uploads))
        wall = time.perf_counter() - started
    server.should_exit = True
    await asyncio.to_thread(thread.join)
    return seconds, wall


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
