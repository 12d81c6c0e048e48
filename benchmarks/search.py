"""Stores, against bare FAISS.

Vectors are clustered as embeddings are (a cluster for 100 of them, in directions whose variance falls), as neither
graphs nor recall mean anything on uniform noise.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd

from benchmarks.measure import compare, result
from pullpush.search.stores import Change, open_store
from pullpush.search.stores.base import FILTERS

ROWS, DIM = 1_000_000, 128


def run() -> list[dict[str, Any]]:
    """A row a measurement: name, ours, other, unit and ratio = other / ours (larger is better for us)."""
    vectors = clustered(ROWS, DIM)
    with tempfile.TemporaryDirectory() as folder:
        rows = [*flat(vectors, Path(folder)), *hnsw(vectors, Path(folder))]
        return [*rows, *codes("int8", vectors, Path(folder)), *codes("binary", vectors, Path(folder))]


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
    view = _store("faiss:hnsw", vectors, folder / "hnsw")
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
    return rows


def codes(kind: str, vectors: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """Small codes, whose candidates are ranked by the vectors, against our exact store: one query, bytes of a row that
    a search reads of all rows, and the recall@10 of 500 queries."""
    view, exact = (_store(f"faiss:{each}", vectors, folder / f"{kind}-{each}") for each in (kind, "flat"))
    name, query = f"search/{kind}/{len(vectors)}x{vectors.shape[1]}", _queries(vectors, 1)
    ours, other = compare(lambda: view.search(query, 10), lambda: exact.search(query, 10))
    read = [
        (folder / f"{kind}-{each}" / file).stat().st_size / len(vectors)
        for each, file in ((kind, "vectors.faiss"), ("flat", "vectors.npy"))
    ]
    queries = _queries(vectors, 500, seed=9)
    pairs = zip(view.search(queries, 10)[1], exact.search(queries, 10)[1], strict=True)
    recall = float(np.mean([len(set(a) & set(b)) / 10 for a, b in pairs]))
    return [
        result(f"{name}/flat/one", ours * 1e3, other * 1e3, "ms"),
        result(f"{name}/bytes", *read, "bytes"),
        {"name": f"{name}/recall@10", "ours": recall, "other": 0.95, "unit": "fraction", "ratio": recall / 0.95},
    ]


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
