"""Exact nearest neighbours of a few queries: one matrix product a block of vectors, in memory or in a mapped file.

`evaluation.knn.search` goes by blocks of queries instead; both select by the same code.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.evaluation.knn import Floats, Ints, nearest, shortlist

__all__ = ["Quantized", "Rows", "search"]

_CELLS = 1 << 24  # scores held at a time: 64 MB
_FEW = 32  # rows of a group, and how many times fewer candidates than rows are worth being gathered
_STEP = 1 << 16
_LANES = 32  # the product of codes reads that many columns at a time, also beyond the last
_ROUNDING = 2**-8 + 2**-16  # relative, of a number given in bfloat16; the second for sums in float32

# The product of int8 weights with bfloat16 that language models use; torch has it under this name alone.
_product_of_codes = getattr(torch, "_weight_int8pack_mm", None)


@dataclass(frozen=True)
class Quantized:
    """The vectors in 8 bits, of which one query reads a quarter of the bytes to find the rows that can be among its
    nearest; `search` then compares these exactly.

    - `codes`: int8 `[n, dim]`, with zeros up to a multiple of 32 columns.
    - `scales`: bfloat16 `[n]`; a vector is about scale x code.
    - `error`: the largest length of vector - scale x code.
    - `length`: the largest length of a vector.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    error: float
    length: float

    @classmethod
    def of(cls, vectors: Floats) -> Self:
        """Of float32 `[n, dim]`."""
        count, dim = vectors.shape
        codes = torch.zeros(count, -(-dim // _LANES) * _LANES, dtype=torch.int8)
        scales = torch.ones(count, dtype=torch.bfloat16)
        error = length = 0.0
        for start in range(0, count, _STEP):
            part = torch.from_numpy(vectors[start : start + _STEP])
            scale = (part.abs().amax(1) / 127).bfloat16()
            scale[scale == 0] = 1
            code = (part / scale[:, None]).round().clamp(-127, 127)
            codes[start : start + _STEP, :dim], scales[start : start + _STEP] = code.to(torch.int8), scale
            error = max(error, float((part - scale[:, None] * code).norm(dim=1).max()))
            length = max(length, float(part.norm(dim=1).max()))
        return cls(codes, scales, error, length)

    def candidates(self, query: Floats, k: int, allowed: NDArray[np.bool_] | None = None) -> Ints | None:
        """Numbers of the rows that can be among the `k` nearest, ascending; None where they are too many to be worth
        it.

        With b = |q - q'| length + |q'| error + what rounding adds, no score is further than b from its rough one. So
        where k rows have rough scores of at least t, the k nearest score t - b or more, and have rough scores of
        t - 2b or more. t is the k-th largest of the maxima of groups of rows.
        """
        groups = len(self.codes) // _FEW
        if groups < 4 * k or _product_of_codes is None:
            return None
        padded = torch.zeros(1, self.codes.shape[1], dtype=torch.bfloat16)
        padded[0, : len(query)] = torch.from_numpy(query)
        rough = _product_of_codes(padded, self.codes, self.scales)[0].float().numpy()
        if allowed is not None:
            rough[~allowed] = -np.inf
        # Neighbours stand in different groups: an index is often sorted by class.
        maxima = rough[: groups * _FEW].reshape(_FEW, groups).max(axis=0)
        least = float(np.partition(maxima, groups - k)[groups - k])
        longest = (1 + _ROUNDING) * (self.length + self.error)
        bound = math.sqrt(query @ query) * (_ROUNDING * (self.length + longest) + (1 + _ROUNDING) * self.error)
        rows = np.flatnonzero(rough >= least - 2 * bound)
        return rows if math.isfinite(least) and len(rows) * _FEW <= len(rough) else None


def search(
    queries: Floats,
    vectors: Floats,
    k: int,
    allowed: NDArray[np.bool_] | None = None,
    quantized: Quantized | None = None,
) -> tuple[Floats, Ints]:
    """Scores float32 `[q, k]` descending and row numbers int64 `[q, k]` by inner product; -inf and -1 where there
    are fewer.

    FAISS's flat index scans for each query on one core until the batch is large; for the few queries of a search box
    the product is two to ten times faster (`benchmarks/search.py` measures it).

    `allowed`: bool `[n]`. Few allowed rows are gathered, many are masked. `quantized`: of `vectors`; one query is
    then answered in less than half the time, with the same result.
    """
    rows = None
    if allowed is not None and 4 * np.count_nonzero(allowed) < len(vectors):
        rows = np.flatnonzero(allowed)
        allowed = None
    elif quantized is not None and len(queries) == 1:
        near = quantized.candidates(queries[0], k, allowed)
        if near is not None:
            product = _product(queries, vectors[near])
            order = np.argsort(-product[0], kind="stable")[:k]
            return product[:, order], near[None, order]
    count = len(vectors) if rows is None else len(rows)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    places = np.full((len(queries), k), -1, np.int64)
    step = max(_CELLS // max(len(queries), 1), 1)
    for start in range(0, count, step):
        stop = min(start + step, count)
        block = vectors[start:stop] if rows is None else vectors[rows[start:stop]]
        product = _product(queries, block)
        if allowed is not None:
            product[:, ~allowed[start:stop]] = -np.inf
        best = nearest(product, shortlist(product, k, 0.0), k)
        scores, places = _merge(scores, places, best.similarities, best.indices + start)
    if rows is not None and count:
        places = rows[places]
    return scores, np.where(np.isneginf(scores), -1, places)


def _product(queries: Floats, block: Floats) -> Floats:
    """By torch, as the encoder's threads are torch's too: those of numpy's BLAS would wait busily beside them."""
    x, y = torch.from_numpy(queries), torch.from_numpy(block)
    return (torch.mv(y, x[0])[None] if len(x) == 1 else torch.nn.functional.linear(x, y)).numpy()


def _merge(scores: Floats, places: Ints, more: Floats, more_places: Ints) -> tuple[Floats, Ints]:
    """The best of both, sorted; equal scores by row number, so that an answer does not depend on the blocks."""
    k = scores.shape[1]
    scores, places = np.concatenate([scores, more], 1), np.concatenate([places, more_places], 1)
    order = np.lexsort((places, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)


class Rows:
    """Where the ids of a table stand in it; quicker for a few than pandas' own look-up."""

    def __init__(self, ids: np.ndarray) -> None:
        self._ids, self._order = ids, np.argsort(ids, kind="stable")

    def __call__(self, wanted: np.ndarray) -> np.ndarray:
        """Row numbers; -1 for an id that is not there. Negative ids are none."""
        if not len(self._ids):
            return np.full(wanted.shape, -1, np.int64)
        places = np.searchsorted(self._ids, wanted, sorter=self._order)
        rows = self._order[np.minimum(places, len(self._ids) - 1)]
        return np.where((self._ids[rows] == wanted) & (wanted >= 0), rows, -1)
