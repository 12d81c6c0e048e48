"""The embedded store: a version is a folder of files that are mapped into memory.

vectors.npy       float32 [rows, dim]: exact search reads nothing else, and IVF-PQ's own vectors are approximate. In a
                  FAISS file they would not be aligned, and a product of unaligned numbers takes a hundred times as long
quantized.pt      where search is exact: the same in 8 bits, for a first pass that loses none of the nearest
vectors.faiss     HNSW with its vectors, or IVF-PQ
rows.npy          int64 [rows]: the id of each row, -1 for a row that was removed
columns.parquet   what a search can be narrowed by, a row each
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import torch

from pullpush.errors import UserError
from pullpush.search.stores import exact
from pullpush.search.stores.base import FILTERS, Change, Rows, Where

KINDS = ("auto", "flat", "hnsw", "ivfpq")
FLAT_UP_TO, HNSW_UP_TO = 1_000_000, 20_000_000
"""`auto` is exact up to the first number of rows, HNSW up to the second, IVF-PQ beyond (HNSW needs dim x 4 + 270
bytes a row)."""

NEIGHBOURS, EF_CONSTRUCTION = 16, 64
RECALL, PROBES = 0.95, 200
"""The search effort (efSearch, nprobe) is raised until recall@10 against exact search, on PROBES rows, reaches
RECALL."""
REBUILD_AT = 0.2
"""Share of removed rows at which a graph is built anew."""


class FaissStore:
    """`kind`: `auto` (by size), `flat`, `hnsw` or `ivfpq`."""

    def __init__(self, kind: str = "auto") -> None:
        if kind not in KINDS:
            raise UserError(f"unknown FAISS index {kind!r}; it can be {', '.join(KINDS)}")
        self.kind = kind

    def stage(self, folder: Path, version: int, change: Change, previous: Path | None) -> dict[str, Any]:
        old = FaissVectors(previous) if previous is not None else None
        ids, vectors, columns = _joined(old, change)
        kind = self.kind if self.kind != "auto" else choose(len(ids))
        index = _grown(old, previous, kind, change) if old is not None else None
        if index is not None and old is not None:
            dead = np.isin(old.ids, change.removed) | (old.ids < 0)
            ids = np.concatenate([np.where(dead, -1, old.ids), change.ids])
            vectors = np.concatenate([old.vectors, change.vectors])
            columns = pd.concat([old.columns, change.columns[list(FILTERS)]], ignore_index=True)
        elif kind != "flat":
            index = build(kind, vectors)
        if index is not None:
            faiss.write_index(index, str(folder / "vectors.faiss"))
        if kind != "hnsw":
            np.save(folder / "vectors.npy", np.ascontiguousarray(vectors, np.float32))
        np.save(folder / "rows.npy", ids)
        columns.to_parquet(folder / "columns.parquet")
        facts = {
            "kind": kind,
            "rows": len(ids),
            "removed": int((ids < 0).sum()),
            "dim": vectors.shape[1],
            "effort": 0,
            "recall@10": 1.0,
        }
        if index is not None:
            facts["effort"], facts["recall@10"] = tune(index, vectors, ids >= 0)
        if kind == "flat" and len(ids):
            torch.save(vars(exact.Quantized.of(np.ascontiguousarray(vectors, np.float32))), folder / "quantized.pt")
        (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")
        if old is not None:
            old.close()
        return facts

    def settle(self, version: int, change: Change) -> None:
        """Nothing: a version is a folder, and the index removes old folders."""

    def open(self, folder: Path, version: int) -> FaissVectors:
        return FaissVectors(folder)


class FaissVectors:
    """A version on disk; the file is mapped, so pages are read when they are needed and shared between processes."""

    def __init__(self, folder: Path) -> None:
        self.facts: dict[str, Any] = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        kind, rows, dim = self.facts["kind"], self.facts["rows"], self.facts["dim"]
        if kind != "flat":
            self.index = faiss.read_index(str(folder / "vectors.faiss"), faiss.IO_FLAG_MMAP_IFC)
        self.ids = np.load(folder / "rows.npy")
        self.columns = pd.read_parquet(folder / "columns.parquet")
        if kind == "hnsw":
            self.vectors = _own_vectors(self.index, rows, dim)
        else:
            self.vectors = np.asarray(np.load(folder / "vectors.npy", mmap_mode="c" if rows else None))
        self._quantized = _open_quantized(folder / "quantized.pt")
        self._alive = self.ids >= 0
        self._rows = Rows(self.ids)
        self._codes = {name: pd.factorize(self.columns[name]) for name in FILTERS}

    def __len__(self) -> int:
        return int(self._alive.sum())

    def search(self, queries: np.ndarray, k: int, where: Where | None = None) -> tuple[np.ndarray, np.ndarray]:
        queries = np.ascontiguousarray(queries, np.float32)
        allowed = self._allowed(where)
        few = allowed is not None and np.count_nonzero(allowed) * 20 < len(self.ids)
        if self.facts["kind"] == "flat" or few:
            scores, rows = exact.search(queries, self.vectors, k, allowed, self._quantized)
        else:
            scores, rows = _approximate(self.index, self.vectors, queries, k, self.facts["effort"], allowed)
        return scores, np.where(rows >= 0, self.ids[rows], -1)

    def get(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids, np.int64)
        rows = self._rows(ids)
        if (rows < 0).any():
            raise KeyError(int(ids[rows < 0][0]))
        return np.array(self.vectors[rows])

    def close(self) -> None:
        """The mapping ends with the last reference to it."""

    def _allowed(self, where: Where | None) -> np.ndarray | None:
        if not where:
            return None if self._alive.all() else self._alive
        allowed = self._alive.copy()
        for name, value in where.items():
            codes, values = self._codes[name]
            allowed &= codes == (values.get_loc(value) if value in values else -2)
        return allowed


def choose(rows: int) -> str:
    """The kind of index for a number of rows."""
    return "flat" if rows <= FLAT_UP_TO else "hnsw" if rows <= HNSW_UP_TO else "ivfpq"


def build(kind: str, vectors: np.ndarray) -> faiss.Index:
    """A FAISS index by inner product over `vectors` `[n, dim]`: `hnsw` or `ivfpq`."""
    dim = vectors.shape[1]
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION
    else:
        index = _ivfpq(vectors)
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index


def tune(index: faiss.Index, vectors: np.ndarray, alive: np.ndarray) -> tuple[int, float]:
    """The least effort which reaches RECALL, and the recall@10 measured with it.

    Queries are PROBES living rows, each slightly turned (an item itself would be found too easily).
    """
    rng = np.random.default_rng(0)
    rows = (
        rng.choice(np.flatnonzero(alive), min(PROBES, int(alive.sum())), replace=False)
        if alive.any()
        else np.zeros(0, int)
    )
    if not len(rows):
        return 64, 1.0
    noise = rng.standard_normal((len(rows), vectors.shape[1]), dtype=np.float32)
    queries = vectors[rows] + 0.3 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    k = min(10, int(alive.sum()))
    mask = None if alive.all() else alive
    truth = exact.search(queries, vectors, k, mask)[1]
    effort, recall = 16, 0.0
    for effort in (16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024):
        found = _approximate(index, vectors, queries, k, effort, mask)[1]
        recall = float(np.mean([len(set(a) & set(b)) / k for a, b in zip(found, truth, strict=True)]))
        if recall >= RECALL + 0.01:  # a little more than asked for: the probes are a sample
            break
    return effort, round(recall, 4)


def _approximate(
    index: faiss.Index, vectors: np.ndarray, queries: np.ndarray, k: int, effort: int, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    bits = np.packbits(allowed, bitorder="little") if allowed is not None else None  # the selector does not own it
    selector = faiss.IDSelectorBitmap(bits) if bits is not None else None
    if isinstance(index, faiss.IndexHNSW):
        options = faiss.SearchParametersHNSW(sel=selector, efSearch=max(effort, k))
        scores, rows = _numpy_search(index)(queries, k, params=options)
        return np.where(rows >= 0, scores, -np.inf), rows
    # IVF-PQ finds candidates by codes; their order comes from the vectors themselves
    options = faiss.SearchParametersIVF(sel=selector, nprobe=min(effort, index.nlist))
    candidates = _numpy_search(index)(queries, max(10 * k, 4 * effort), params=options)[1]
    scores = np.einsum("qd,qcd->qc", queries, vectors[np.maximum(candidates, 0)])
    scores[candidates < 0] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(candidates, order, 1)
    return scores, rows


def _numpy_search(index: faiss.Index) -> Any:
    """`index.search`; where faiss.contrib.torch_utils is loaded, the method it replaced, which takes params."""
    return getattr(index, "search_numpy", index.search)


def _ivfpq(vectors: np.ndarray) -> faiss.Index:
    """Lists about 4 sqrt(n), codes of dim / 4 bytes (dim / 2 for small ones), trained on at most 64 vectors a list."""
    count, dim = vectors.shape
    lists = int(np.clip(4 * np.sqrt(count), 1, max(count // 40, 1)))
    codes = next((m for m in (dim // 4, dim // 2, dim // 3, 1) if m and dim % m == 0), 1)
    bits = 8 if count >= 40 * 256 else 4
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, lists, codes, bits, faiss.METRIC_INNER_PRODUCT)
    rows = np.random.default_rng(0).permutation(count)[: max(64 * lists, 40 << bits)]
    index.train(np.ascontiguousarray(vectors[np.sort(rows)], np.float32))
    return index


def _grown(old: FaissVectors, previous: Path | None, kind: str, change: Change) -> faiss.Index | None:
    """The graph or the lists of the version before with the new rows added, while few rows are dead; else None."""
    if kind == "flat" or old.facts["kind"] != kind or previous is None:
        return None
    dead = np.count_nonzero(np.isin(old.ids, change.removed) | (old.ids < 0))
    if dead > REBUILD_AT * len(old.ids):
        return None
    index = faiss.read_index(str(previous / "vectors.faiss"))
    index.add(np.ascontiguousarray(change.vectors, np.float32))
    return index


def _joined(old: FaissVectors | None, change: Change) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Ids, vectors and columns of the new version without the removed ones."""
    if old is None:
        return change.ids, np.ascontiguousarray(change.vectors, np.float32), change.columns[list(FILTERS)]
    keep = (old.ids >= 0) & ~np.isin(old.ids, change.removed)
    columns = pd.concat([old.columns[keep], change.columns[list(FILTERS)]], ignore_index=True)
    return np.concatenate([old.ids[keep], change.ids]), np.concatenate([old.vectors[keep], change.vectors]), columns


def _open_quantized(file: Path) -> exact.Quantized | None:
    if not file.exists():  # an index of no rows, of another kind or of an earlier pullpush
        return None
    return exact.Quantized(**torch.load(file, mmap=True, weights_only=True))


def _own_vectors(index: faiss.Index, rows: int, dim: int) -> np.ndarray:
    """The vectors below a graph, without a copy."""
    flat = faiss.downcast_index(index.storage)
    return faiss.rev_swig_ptr(flat.get_xb(), rows * dim).reshape(rows, dim) if rows else np.zeros((0, dim), np.float32)
