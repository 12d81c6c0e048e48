"""Exact nearest neighbours as one matrix product a block, for vectors that lie in memory or in a mapped file."""

from __future__ import annotations

import numpy as np
import torch

_CELLS = 1 << 24  # scores held at a time: 64 MB
_GROUP = 256


def search(
    queries: np.ndarray, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 `[q, k]` descending and row numbers int64 `[q, k]` by inner product; -inf and -1 where there
    are fewer.

    FAISS's flat index scans for each query on one core until the batch is large; for the few queries of a search box
    the product is two to ten times faster (`benchmarks/search.py` measures it).

    `allowed`: bool `[n]`. Few allowed rows are gathered, many are masked.
    """
    rows = None
    if allowed is not None and 4 * np.count_nonzero(allowed) < len(vectors):
        rows, allowed = np.flatnonzero(allowed), None
    count = len(vectors) if rows is None else len(rows)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    found = np.full((len(queries), k), -1, np.int64)
    step = max(_CELLS // max(len(queries), 1), 1)
    for start in range(0, count, step):
        stop = min(start + step, count)
        block = vectors[start:stop] if rows is None else vectors[rows[start:stop]]
        product = _product(queries, block)
        if allowed is not None:
            product[:, ~allowed[start:stop]] = -np.inf
        best = _top(product, min(k, stop - start))
        scores, found = _merge(scores, found, np.take_along_axis(product, best, 1), best + start)
    if rows is not None:
        found[found >= 0] = rows[found[found >= 0]]
    found[np.isneginf(scores)] = -1
    return scores, found


def _product(queries: np.ndarray, block: np.ndarray) -> np.ndarray:
    """By torch, as the encoder's threads are torch's too: those of numpy's BLAS would wait busily beside them."""
    x, y = torch.from_numpy(queries), torch.from_numpy(block)
    return (torch.mv(y, x[0])[None] if len(x) == 1 else torch.nn.functional.linear(x, y)).numpy()


def _top(product: np.ndarray, k: int) -> np.ndarray:
    """Columns of the `k` largest of each row, in any order.

    The k largest lie in the k groups of columns whose maxima are the largest, so only those are looked at.
    """
    n, columns = product.shape
    groups = columns // _GROUP
    if groups <= 4 * k:
        return np.argpartition(product, columns - k, axis=1)[:, columns - k :]
    whole = product[:, : groups * _GROUP].reshape(n, groups, _GROUP)
    chosen = np.argpartition(whole.max(axis=2), groups - k, axis=1)[:, groups - k :]
    places = (chosen[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(n, -1)
    rest = np.broadcast_to(np.arange(groups * _GROUP, columns), (n, columns - groups * _GROUP))
    places = np.concatenate([places, rest], axis=1)
    values = np.take_along_axis(product, places, 1)
    best = np.argpartition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k :]
    return np.take_along_axis(places, best, 1)


def _merge(
    scores: np.ndarray, found: np.ndarray, more: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best of both, sorted; equal scores by row number, so that an answer does not depend on the blocks."""
    k = scores.shape[1]
    scores, found = np.concatenate([scores, more], 1), np.concatenate([found, places], 1)
    order = np.lexsort((found, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
