"""Exact nearest neighbours, in blocks of queries: similarities of a block are held, never those of all queries."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from pullpush.errors import UserError
from pullpush.progress import counted

__all__ = [
    "CELLS",
    "SIMILARITIES",
    "Floats",
    "Ints",
    "Neighbours",
    "Shortlist",
    "Similarity",
    "Space",
    "cells",
    "for_each_block",
    "keys",
    "mask_own",
    "matrix",
    "nearest",
    "one_thread_a_product",
    "positions",
    "prepare",
    "search",
    "shortlist",
    "unit",
]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

CELLS = 1 << 26
"""Similarities held at once by all threads: 256 MB. One holds at most a quarter of it, and works on half of that."""

GROUP = 32
"""Columns whose maximum is taken together."""

SIMILARITIES = ("cosine", "dot", "euclidean")

Similarity = str | Callable[[Floats, Floats, Ints], "Space"]
"""A name, or a function of the queries, the gallery and `[queries]`, the row of the gallery that each is, or -1."""


class Neighbours(NamedTuple):
    """The nearest references of each query, nearest first."""

    indices: Ints
    """int64 `[queries, k]`: row numbers of the gallery; -1 where there are fewer than k."""
    similarities: Floats
    """float32 `[queries, k]`; larger is closer; -inf where there are fewer than k."""


class Space(NamedTuple):
    """Queries and gallery, brought to where the inner product ranks them as the similarity does."""

    queries: Floats
    gallery: Floats
    scale: NDArray[np.float64]
    """`[queries]`: no similarity of the query is larger in absolute value."""
    adjust: Callable[[int, Floats], None] | None = None
    """`adjust(start, block)` changes a block of inner products, that of the queries from `start` on, to the
    similarities. What it leaves in a query's own cell does not count."""


class Shortlist(NamedTuple):
    """The columns of each row that can be among its nearest: row after row, in one flat list.

    A row in which too many can be, since they are tied, is sorted as a whole instead, and has none in the list.
    """

    rows: Ints
    columns: Ints
    values: Floats
    starts: Ints
    """int64 `[rows + 1]`: row i holds the places starts[i]:starts[i + 1]."""
    dense: Ints
    """Rows that are sorted."""
    ordered: Floats
    """float32 `[dense, columns]`: their values, the largest last."""


def search(
    queries: Any,
    gallery: Any,
    k: int,
    *,
    query_ids: Any = None,
    gallery_ids: Any = None,
    similarity: Similarity = "cosine",
) -> Neighbours:
    """The k nearest items of the gallery for each query, exactly.

    Blocks of similarities (one matrix product each), then a selection that reads most of each row once.

    Args:
        queries: `[n, dim]`, numpy or torch, any float type.
        gallery: `[m, dim]`.
        k: how many, at least 1.
        query_ids, gallery_ids: int `[n]`, `[m]`; where both are given, an item never finds itself (the same id).
        similarity: `cosine`, `dot`, `euclidean` (negative squared distance, halved and up to a constant a query), or a
            function of queries, gallery and own rows to a `Space`.

    Raises:
        UserError: for NaN, wrong shapes, an unknown similarity, or k below 1.
    """
    if k < 1:
        raise UserError(f"k is {k}; ask for at least 1 neighbour.")
    queries, gallery = matrix(queries, "queries"), matrix(gallery, "gallery")
    own = np.full(len(queries), -1)
    if query_ids is not None and gallery_ids is not None:
        own = positions(np.asarray(query_ids), np.asarray(gallery_ids))
    space = prepare(queries, gallery, similarity, own)
    neighbours = Neighbours(np.empty((len(own), k), np.int64), np.empty((len(own), k), np.float32))

    def select(start: int, rows: Floats) -> None:
        at = slice(start, start + len(rows))
        if space.adjust is not None:
            space.adjust(start, rows)
        mask_own(rows, own[at])
        neighbours.indices[at], neighbours.similarities[at] = nearest(rows, shortlist(rows, k, 0.0), k, space.scale[at])

    for_each_block(space.queries, space.gallery, select)
    return neighbours


def matrix(values: Any, name: str) -> Floats:
    """`values` as a finite float32 `[n, dim]` array; `UserError` names what is wrong with it."""
    if isinstance(values, torch.Tensor):
        values = values.detach().float().cpu().numpy()
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.ndim != 2 or not array.size:
        raise UserError(f"{name} has the shape {list(array.shape)}; give [items, dim] with at least one item.")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise UserError(
            f"{name}: {int(bad.sum())} of {len(array)} rows hold NaN or infinity, first row {int(bad.argmax())}. "
            "Look for the step where training diverged (a lower learning rate, gradient clipping) before evaluating."
        )
    return array


def prepare(queries: Floats, gallery: Floats, similarity: Similarity, own: Ints | None = None) -> Space:
    """Vectors whose inner product is the similarity (for `euclidean`: q.g - |g|^2 / 2, after the mean is removed).

    Args:
        queries: float32 `[n, dim]`.
        gallery: float32 `[m, dim]`.
        similarity: as of `search`.
        own: `[n]`, the row of the gallery that each query is, or -1; none is by default.

    Raises:
        UserError: the dimensions differ, or the similarity is unknown.
    """
    if queries.shape[1] != gallery.shape[1]:
        raise UserError(
            f"queries have {queries.shape[1]} dimensions, the gallery {gallery.shape[1]}; embed both alike."
        )
    if callable(similarity):
        return similarity(queries, gallery, np.full(len(queries), -1) if own is None else own)
    if similarity == "cosine":
        same = queries is gallery
        queries = unit(queries)
        gallery = queries if same else unit(gallery)
    elif similarity == "euclidean":
        centre = gallery.mean(axis=0)
        queries, gallery = queries - centre, gallery - centre
        half = (gallery * gallery).sum(axis=1, keepdims=True) / 2
        queries = np.hstack([queries, np.ones_like(queries[:, :1])])
        gallery = np.hstack([gallery, -half])
    elif similarity != "dot":
        raise UserError(f"similarity {similarity!r} is unknown; choose one of {', '.join(SIMILARITIES)}.")
    scale = _norm(queries)[:, 0] * _norm(gallery).max()
    return Space(queries, gallery, np.where(scale > 0, scale, 1.0))


@cache
def _numpy_threads() -> ThreadpoolController:
    """To look for the libraries reads the process's whole map of memory, tens of milliseconds of a large one."""
    return ThreadpoolController()


def one_thread_a_product() -> AbstractContextManager[Any]:
    """numpy's products within take one thread each, as their callers are threads, or the products small."""
    limited: AbstractContextManager[Any] = _numpy_threads().limit(limits=1, user_api="blas")
    return limited


def for_each_block(queries: Floats, gallery: Floats, act: Callable[[int, Floats], None]) -> None:
    """Call `act(start, similarities)` for all queries, block by block, in as many threads as torch uses.

    `similarities` is `[some rows, gallery]`, may be written to, and is only valid during the call. A thread makes its
    own blocks, product and act in turn, so none waits for another. numpy multiplies, since torch's product may be set
    to bfloat16 by `torch.set_float32_matmul_precision`.
    """
    threads = torch.get_num_threads()
    rows = max(1, CELLS // max(threads, 4) // len(gallery))
    rows = min(rows, -(-len(queries) // threads))
    step = -(-rows // 2)
    buffers = threading.local()

    def block(start: int) -> int:
        if not hasattr(buffers, "rows"):
            buffers.rows = np.empty((rows, len(gallery)), dtype=np.float32)
        part = queries[start : start + rows]
        similarities = np.matmul(part, gallery.T, out=buffers.rows[: len(part)])
        for at in range(0, len(part), step):
            act(start + at, similarities[at : at + step])
        return len(part)

    with one_thread_a_product(), ThreadPoolExecutor(threads) as pool:
        done = pool.map(block, range(0, len(queries), rows))
        for _ in counted(done, "ranking", len(queries), "queries", int):
            pass


def shortlist(block: Floats, k: int, slack: Any) -> Shortlist:
    """Every column whose value is at least the k-th largest of its row less `slack`, and few others.

    The k-th largest of the maxima of groups of columns bounds the k-th largest of all from below, and is cheap to find.
    What is -inf is not there. `slack` is one number or `[rows]`. Where ties bring many more groups to the bound than
    the k that must reach it, sorting the row costs less than picking it apart.
    """
    count, width = block.shape
    k = min(k, width)
    size = max(1, min(GROUP, width // (4 * k)))
    groups = width // size
    body, rest = block[:, : groups * size].reshape(count, size, groups), block[:, groups * size :]
    maxima = body.max(axis=1)
    bounds = np.partition(maxima, groups - k, axis=1)[:, groups - k] - slack
    bounds = np.maximum(bounds, np.finfo(np.float32).min).astype(np.float32)[:, None]
    # only groups whose maximum reaches the bound are read again
    reached = maxima >= bounds
    dense = np.flatnonzero(np.count_nonzero(reached, axis=1) > max(4 * k, groups // 8))
    reached[dense] = False
    row, group = np.divmod(np.flatnonzero(reached), groups)
    values = body[row, :, group]
    hit, member = np.nonzero(values >= bounds[row])
    in_rest = rest >= bounds
    in_rest[dense] = False
    rest_rows, rest_columns = np.nonzero(in_rest)
    rows = np.concatenate([row[hit], rest_rows])
    order = np.argsort(rows, kind="stable")
    columns = np.concatenate([member * groups + group[hit], rest_columns + groups * size])[order]
    similarities = np.concatenate([values[hit, member], rest[rest_rows, rest_columns]])[order]
    starts = np.searchsorted(rows[order], np.arange(count + 1))
    return Shortlist(rows[order], columns, similarities, starts, dense, np.sort(block[dense], axis=1))


def cells(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Rows and columns of the cells that stand in the columns first:last of each row, row after row."""
    rows = np.repeat(np.arange(len(first)), last - first)
    return rows, np.arange(len(rows)) + np.repeat(last - np.cumsum(last - first), last - first)


def keys(rows: Ints, values: Floats, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers that sort by row, and within a row by value, largest first: 4 row - value / scale.

    So one sort or look-up serves all rows at once. A value is at most `scale`, hence rows stay apart.
    """
    return 4.0 * rows - values / scale[rows]


def nearest(block: Floats, near: Shortlist, k: int, scale: NDArray[np.float64] | None = None) -> Neighbours:
    """The k largest of each row of a block, largest first, from its shortlist made for k or more.

    `scale` as of `keys`; by default what bounds the values of the shortlist.
    """
    count = len(near.starts) - 1
    if scale is None:
        scale = np.full(count, np.abs(near.values).max(initial=np.finfo(np.float32).tiny), np.float64)
    order = np.argsort(keys(near.rows, near.values, scale))
    place = near.starts[:-1, None] + np.arange(k)
    there = place < near.starts[1:, None]
    at = order[place[there]]
    neighbours = Neighbours(np.full((count, k), -1, np.int64), np.full((count, k), -np.inf, np.float32))
    neighbours.indices[there], neighbours.similarities[there] = near.columns[at], near.values[at]
    for i, ordered in zip(near.dense, near.ordered, strict=True):
        row, edge = block[i], ordered[-k]
        columns = np.concatenate([np.flatnonzero(row > edge), np.flatnonzero(row == edge)[:k]])[:k]
        neighbours.indices[i] = columns[np.argsort(-row[columns], kind="stable")]
        neighbours.similarities[i] = ordered[: -k - 1 : -1]
    return neighbours


def positions(ids: NDArray[Any], among: NDArray[Any]) -> Ints:
    """Where each id stands in `among` (unique ids), -1 where it does not."""
    order = np.argsort(among, kind="stable")
    place = np.searchsorted(among, ids, sorter=order).clip(max=len(among) - 1)
    at = order[place]
    return np.where(among[at] == ids, at, -1)


def mask_own(rows: Floats, own: Ints) -> None:
    """Set each row's own column to -inf (none where `own` is -1)."""
    here = np.flatnonzero(own >= 0)
    rows[here, own[here]] = -np.inf


def _norm(array: Floats) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64)), np.float64)[:, None]


def unit(array: Floats) -> Floats:
    """Each row with the length 1; zeros stay."""
    norm = _norm(array)
    return np.asarray(array / np.where(norm > 0, norm, 1).astype(np.float32), np.float32)
