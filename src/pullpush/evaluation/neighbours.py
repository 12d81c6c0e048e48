"""Exact nearest neighbours, in blocks of queries: similarities of a block are held, never those of all queries."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.errors import UserError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

CELLS = 1 << 24
"""Similarities held at once: 64 MB."""

SIMILARITIES = ("cosine", "dot", "euclidean")


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
    tolerance: Floats
    """float32 `[queries]`: similarities that differ by less are tied."""


def search(
    queries: Any,
    gallery: Any,
    k: int,
    *,
    query_ids: Any = None,
    gallery_ids: Any = None,
    similarity: str = "cosine",
) -> Neighbours:
    """The k nearest items of the gallery for each query, exactly.

    Blocks of 64 MB of similarities (one matrix product each), then a selection that reads each row twice. On two cores
    this is faster than a flat FAISS index of the same data (see `benchmarks/evaluate.py`).

    Args:
        queries: `[n, dim]`, numpy or torch, any float type.
        gallery: `[m, dim]`.
        k: how many, at least 1.
        query_ids, gallery_ids: int `[n]`, `[m]`; where both are given, an item never finds itself (the same id).
        similarity: `cosine`, `dot` or `euclidean` (negative squared distance, halved and up to a constant a query).

    Raises:
        UserError: for NaN, wrong shapes, an unknown similarity, or k below 1.
    """
    if k < 1:
        raise UserError(f"k is {k}; ask for at least 1 neighbour.")
    space = prepare(matrix(queries, "queries"), matrix(gallery, "gallery"), similarity)
    own = np.full(len(space.queries), -1)
    if query_ids is not None and gallery_ids is not None:
        own = positions(np.asarray(query_ids), np.asarray(gallery_ids))
    found = empty_neighbours(len(space.queries), k)

    def select(start: int, rows: Floats) -> None:
        mask_own(rows, own[start : start + len(rows)])
        for query, near in enumerate(shortlist(rows, k, np.zeros(len(rows), np.float32)), start):
            columns, values = largest(*near, k)
            found.indices[query, : len(columns)], found.similarities[query, : len(columns)] = columns, values

    for_each_block(space.queries, space.gallery, select)
    return found


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


def prepare(queries: Floats, gallery: Floats, similarity: str) -> Space:
    """Vectors whose inner product is the similarity (for `euclidean`: q.g - |g|^2 / 2, after the mean is removed).

    Tied means within 16 units of float32 rounding of the largest possible similarity: equal vectors give similarities
    that differ in the last bits, according to the place in the matrix product in which they were computed.
    """
    if queries.shape[1] != gallery.shape[1]:
        raise UserError(
            f"queries have {queries.shape[1]} dimensions, the gallery {gallery.shape[1]}; embed both alike."
        )
    if similarity == "cosine":
        same = queries is gallery
        queries = _unit(queries)
        gallery = queries if same else _unit(gallery)
    elif similarity == "euclidean":
        centre = gallery.mean(axis=0)
        queries, gallery = queries - centre, gallery - centre
        half = (gallery * gallery).sum(axis=1, keepdims=True) / 2
        queries = np.hstack([queries, np.ones_like(queries[:, :1])])
        gallery = np.hstack([gallery, -half])
    elif similarity != "dot":
        raise UserError(f"similarity {similarity!r} is unknown; choose one of {', '.join(SIMILARITIES)}.")
    longest = _norm(gallery).max()
    tolerance = (16 * np.finfo(np.float32).eps * longest * _norm(queries)[:, 0]).astype(np.float32)
    return Space(queries, gallery, np.maximum(tolerance, np.finfo(np.float32).tiny))


def for_each_block(queries: Floats, gallery: Floats, work: Callable[[int, Floats], None], rows: int = 64) -> None:
    """Call `work(start, similarities)` for all queries, in threads, at most `rows` queries in a call.

    `similarities` is `[at most rows, gallery]` and may be written to; it is only valid during the call.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        for start, block in _blocks(queries, gallery):
            parts = min(len(block), threads * -(-len(block) // (threads * rows)))  # as many for each thread
            edges = np.linspace(0, len(block), parts + 1).astype(int)
            starts, pieces = start + edges[:-1], np.split(block, edges[1:-1])
            list(pool.map(work, starts.tolist(), pieces))


def _blocks(queries: Floats, gallery: Floats) -> Iterator[tuple[int, Floats]]:
    # numpy's product, since torch's may be set to bfloat16 by torch.set_float32_matmul_precision
    rows = max(1, min(len(queries), CELLS // len(gallery)))
    buffer = np.empty((rows, len(gallery)), dtype=np.float32)
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        yield start, np.matmul(part, gallery.T, out=buffer[: len(part)])


def shortlist(block: Floats, k: int, slack: Floats) -> list[tuple[Ints, Floats]]:
    """For each row, the columns that can be among its k largest, or within `slack` of them, and their values.

    Holds every column whose value is at least the k-th largest less `slack` `[rows]`, and few others: the k-th largest
    of the maxima of groups of columns bounds the k-th largest of all from below, and is cheap to find.
    """
    count, width = block.shape
    k = min(k, width)
    size = max(1, min(64, width // (4 * k)))
    groups = width // size
    maxima = block[:, : groups * size].reshape(count, size, groups).max(axis=1)
    bounds = np.partition(maxima, groups - k, axis=1)[:, groups - k] - slack
    flat = np.flatnonzero(block >= bounds[:, None])
    ends = np.searchsorted(flat, np.arange(1, count + 1) * width)
    values = block.ravel()[flat]
    flat %= width
    return [(flat[a:b], values[a:b]) for a, b in zip(np.r_[0, ends[:-1]], ends, strict=True)]


def largest(columns: Ints, values: Floats, k: int) -> tuple[Ints, Floats]:
    """The k largest values and their columns, largest first, of equal ones the first column; -inf is left out."""
    if len(values) > 4 * k:
        edge = np.partition(values, len(values) - k)[len(values) - k]
        keep = np.sort(np.concatenate([np.flatnonzero(values > edge), np.flatnonzero(values == edge)[:k]]))
        columns, values = columns[keep], values[keep]
    order = np.argsort(-values, kind="stable")[:k]
    order = order[values[order] > -np.inf]
    return columns[order], values[order]


def empty_neighbours(queries: int, k: int) -> Neighbours:
    return Neighbours(np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32))


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
    return np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))[:, None]


def _unit(array: Floats) -> Floats:
    norm = _norm(array)
    return array / np.where(norm > 0, norm, 1).astype(np.float32)
