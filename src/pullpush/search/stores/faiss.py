"""The embedded store: a version is a folder of files that are mapped into memory.

vectors.npy       float32 [rows, dim]: exact search reads nothing else, and what IVF-PQ, int8 and binary hold is
                  approximate. In a FAISS file they would not be aligned, and a product of unaligned numbers takes a
                  hundred times as long
quantized.pt      where search is exact: the same in 8 bits, for a first pass that loses none of the nearest
vectors.faiss     HNSW with its vectors; or the codes of IVF-PQ, int8 or binary
rows.npy          int64 [rows]: the id of each row, -1 for a row that was removed
columns.parquet   what a search can be narrowed by, a row each
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from pullpush.errors import UserError
from pullpush.files.arrays import read_npy
from pullpush.files.tables import from_arrow, to_arrow
from pullpush.search import exact
from pullpush.search.stores.base import FILTERS, Change, Store, Where

__all__ = ["FaissStore"]

KINDS = ("auto", "flat", "hnsw", "ivfpq", "int8", "binary")
FLAT_UP_TO, HNSW_UP_TO = 1_000_000, 20_000_000
"""`auto` is exact up to the first number of rows, HNSW up to the second, IVF-PQ beyond (HNSW needs dim x 4 + 270
bytes a row)."""

NEIGHBOURS, EF_CONSTRUCTION = 16, 64
RECALL, PROBES = 0.95, 200
"""The search effort (efSearch, nprobe, candidates) is raised until recall@10 against exact search reaches RECALL for
every kind of query there is: PROBES items that the index does not hold yet, and as many texts. Items with noise would
not do: they reached 0.98 where texts, which lie elsewhere than images, had 0.39."""
EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
ENOUGH = 50
"""New items that are worth measuring the recall anew by."""
REBUILD_AT = 0.2
"""Share of removed rows at which a graph is built anew; so it is when it has doubled since its recall was measured."""


class FaissStore(Store):
    """Of the kind that the URL names; `faiss` alone chooses it by size. The folder of the index is its own."""

    addresses = ("faiss", "faiss:flat", "faiss:hnsw", "faiss:ivfpq", "faiss:int8", "faiss:binary")

    def __init__(self, url: str, owner: str = "") -> None:
        kind = url.partition(":")[2] or "auto"
        if kind not in KINDS:
            raise UserError(f"unknown FAISS index {kind!r}; it can be {', '.join(KINDS)}")
        self.kind = kind

    def stage(self, folder: Path, version: int, change: Change, previous: Path | None) -> dict[str, Any]:
        old = FaissVectors(previous) if previous is not None else None
        keep = (old.ids >= 0) & ~np.isin(old.ids, change.removed) if old is not None else np.zeros(0, bool)
        kind = choose(int(np.count_nonzero(keep)) + len(change.ids)) if self.kind == "auto" else self.kind
        made = _grown(old, previous, kind, keep, change) or _anew(old, kind, keep, change)
        if made.index is not None:
            faiss.write_index(made.index, str(folder / "vectors.faiss"))
        if kind != "hnsw":
            np.save(folder / "vectors.npy", np.ascontiguousarray(made.vectors, np.float32))
        np.save(folder / "rows.npy", made.ids)
        pq.write_table(to_arrow(made.columns), folder / "columns.parquet")
        dead = int((made.ids < 0).sum())
        facts = {"kind": kind, "rows": len(made.ids), "removed": dead, "dim": made.vectors.shape[1], **made.tuned}
        if kind == "flat" and len(made.ids):
            quantized = exact.Quantized.of(np.ascontiguousarray(made.vectors, np.float32))
            torch.save(vars(quantized), folder / "quantized.pt")
        (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")
        return facts

    def settle(self, version: int, change: Change) -> None:
        """Nothing: a version is a folder, and the index removes old folders."""

    def open(self, folder: Path, version: int) -> "FaissVectors":
        return FaissVectors(folder)


class FaissVectors:
    """A version on disk; the file is mapped, so pages are read when they are needed and shared between processes."""

    def __init__(self, folder: Path) -> None:
        self.facts: dict[str, Any] = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        kind, rows, dim = self.facts["kind"], self.facts["rows"], self.facts["dim"]
        if kind != "flat":
            self.index = faiss.read_index(str(folder / "vectors.faiss"), faiss.IO_FLAG_MMAP_IFC)
        self.ids = read_npy(folder / "rows.npy")
        self.columns = from_arrow(pq.read_table(folder / "columns.parquet"))
        if kind != "hnsw":
            self.vectors = read_npy(folder / "vectors.npy", mapped=True)
        elif rows:  # those below the graph, without a copy
            below = faiss.downcast_index(self.index.storage).get_xb()
            self.vectors = faiss.rev_swig_ptr(below, rows * dim).reshape(rows, dim)
        else:
            self.vectors = np.zeros((0, dim), np.float32)
        codes = folder / "quantized.pt"  # not there for an index of no rows, of another kind or of an earlier pullpush
        self._quantized = exact.Quantized(**torch.load(codes, mmap=True, weights_only=True)) if codes.exists() else None
        self._alive = self.ids >= 0
        self._rows = exact.Rows(self.ids)
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
            effort = self.facts["effort"] * len(self.ids) // max(len(self), 1)  # removed rows are looked at, too
            scores, rows = _approximate(self.index, self.vectors, queries, k, effort, allowed)
        return scores, np.where(rows >= 0, self.ids[rows], -1)

    def get(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids, np.int64)
        rows = self._rows(ids)
        if (rows < 0).any():
            raise KeyError(int(ids[rows < 0][0]))
        return np.array(self.vectors[rows])

    def _allowed(self, where: Where | None) -> np.ndarray | None:
        if not where:
            return None if self._alive.all() else self._alive
        allowed: np.ndarray = self._alive.copy()
        for name, value in where.items():
            codes, values = self._codes[name]
            allowed &= codes == (values.get_loc(value) if value in values else -2)
        return allowed


def choose(rows: int) -> str:
    """The kind of index for a number of rows."""
    return "flat" if rows <= FLAT_UP_TO else "hnsw" if rows <= HNSW_UP_TO else "ivfpq"


def build(kind: str, vectors: np.ndarray) -> faiss.Index:
    """A FAISS index by inner product over `vectors` `[n, dim]`: `hnsw`, `ivfpq`, `int8` or `binary`.

    `int8` is FAISS's scalar quantizer: dim bytes a row, the range of each dimension from the vectors. `binary` is
    RaBitQ (Gao and Long, SIGMOD 2024): a bit a dimension, from the mean of the vectors on, and two numbers that make
    an inner product of them: dim / 8 + 8 bytes.
    """
    dim = vectors.shape[1]
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION
    elif kind == "ivfpq":
        index = _ivfpq(vectors)
    else:
        own = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexScalarQuantizer(dim, *own) if kind == "int8" else faiss.IndexRaBitQ(dim, own[1])
        index.train(np.ascontiguousarray(vectors, np.float32))
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index


def tune(
    index: faiss.Index, vectors: np.ndarray, alive: np.ndarray, queries: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The least effort with which the recall@10 of every kind of `queries` reaches RECALL, as facts: `effort`,
    `recall@10` (of the worst kind), `measured` (kind -> number of queries and recall@10) and `measured_rows`."""
    k, mask = min(10, int(alive.sum())), None if alive.all() else alive
    asked = {name: each for name, each in queries.items() if len(each) and k}
    truth = {name: exact.search(each, vectors, k, mask)[1] for name, each in asked.items()}
    effort, recall = 64, {name: 0.0 for name in asked}
    for effort in EFFORTS if asked else ():
        for name, each in asked.items():
            rows = _approximate(index, vectors, each, k, effort, mask)[1]
            recall[name] = float(np.mean([len(set(a) & set(b)) / k for a, b in zip(rows, truth[name], strict=True)]))
        if min(recall.values()) >= RECALL + 0.01:  # a little more than asked for: the queries are a sample
            break
    measured = {name: {"queries": len(asked[name]), "recall@10": round(recall[name], 4)} for name in asked}
    worst = round(min(recall.values(), default=1.0), 4)
    return {"effort": effort, "recall@10": worst, "measured": measured, "measured_rows": len(vectors)}


def _approximate(
    index: faiss.Index, vectors: np.ndarray, queries: np.ndarray, k: int, effort: int, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    bits = np.packbits(allowed, bitorder="little") if allowed is not None else None  # the selector does not own it
    selector = faiss.IDSelectorBitmap(bits) if bits is not None else None
    if isinstance(index, faiss.IndexHNSW):
        options = faiss.SearchParametersHNSW(sel=selector, efSearch=max(effort, k))
        scores, rows = _numpy_search(index)(queries, k, params=options)
        return np.where(rows >= 0, scores, -np.inf), rows
    # candidates are found by codes; their order comes from the vectors themselves
    if isinstance(index, faiss.IndexIVF):
        options, count = faiss.SearchParametersIVF(sel=selector, nprobe=min(effort, index.nlist)), 4 * effort
    else:
        options, count = faiss.SearchParameters(sel=selector), effort
    candidates = _numpy_search(index)(queries, max(10 * k, count), params=options)[1]
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


@dataclass
class _Made:
    """The content of a new version: `index` None where search is exact; `tuned` as of `tune`."""

    ids: np.ndarray
    vectors: np.ndarray
    columns: pd.DataFrame
    index: faiss.Index | None
    tuned: dict[str, Any]


def _grown(
    old: FaissVectors | None, previous: Path | None, kind: str, keep: np.ndarray, change: Change
) -> _Made | None:
    """The graph or the lists of the version before with the new rows added, while few rows are dead; else None."""
    if kind == "flat" or old is None or previous is None or old.facts["kind"] != kind:
        return None
    rows, known = len(old.ids) + len(change.ids), old.facts.get("measured_rows", 0)
    many = len(change.ids) >= ENOUGH
    if np.count_nonzero(~keep) > REBUILD_AT * len(old.ids) or (rows > 2 * known and not many):
        return None
    index = faiss.read_index(str(previous / "vectors.faiss"))
    tuned = {name: old.facts.get(name) for name in ("effort", "recall@10", "measured", "measured_rows")}
    if many:
        tuned = tune(index, old.vectors, keep, _queries(change, change.vectors))
    index.add(np.ascontiguousarray(change.vectors, np.float32))
    ids, vectors, columns = _joined(old, np.ones(len(keep), bool), change)
    ids[np.flatnonzero(~keep)] = -1
    return _Made(ids, vectors, columns, index, tuned)


def _anew(old: FaissVectors | None, kind: str, keep: np.ndarray, change: Change) -> _Made:
    """All rows that are left and the new ones. A tenth of them, at most PROBES, comes last: the index is tuned on them
    before it holds them."""
    ids, vectors, columns = _joined(old, keep, change)
    if kind == "flat":
        return _Made(ids, vectors, columns, None, {"effort": 0, "recall@10": 1.0, "measured": {}})
    held = min(PROBES, -(-len(ids) // 10)) if len(ids) > 1 else 0
    order = np.random.default_rng(0).permutation(len(ids))
    order = np.concatenate([np.sort(order[held:]), order[:held]])
    ids, vectors, columns = ids[order], vectors[order], columns.iloc[order].reset_index(drop=True)
    known = vectors[: len(ids) - held]
    index = build(kind, known)
    tuned = tune(index, known, np.ones(len(known), bool), _queries(change, vectors[len(known) :]))
    index.add(np.ascontiguousarray(vectors[len(known) :], np.float32))
    return _Made(ids, vectors, columns, index, {**tuned, "measured_rows": len(ids)})


def _queries(change: Change, held: np.ndarray) -> dict[str, np.ndarray]:
    """Real queries by kind: items that the index does not hold, and texts."""
    if len(held) > PROBES:
        held = held[np.random.default_rng(0).permutation(len(held))[:PROBES]]
    texts = change.texts() if change.texts is not None else held[:0]
    return {name: np.ascontiguousarray(q, np.float32) for name, q in (("held-out items", held), ("texts", texts))}


def _joined(old: FaissVectors | None, keep: np.ndarray, change: Change) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Ids, vectors and columns of the old rows that are kept, and of the new ones."""
    columns = change.columns[list(FILTERS)]
    if old is None:
        return change.ids, np.ascontiguousarray(change.vectors, np.float32), columns
    return (
        np.concatenate([old.ids[keep], change.ids]),
        np.concatenate([old.vectors[keep], change.vectors]),
        pd.concat([old.columns[keep], columns], ignore_index=True),
    )
