"""k-reciprocal re-ranking: two items are close where the same items are close to both, and they to those.

    N(p, k)    the k nearest of p, p itself the first
    R(p, k)  = {g in N(p, k) : p in N(g, k)}                                                                (eq. 2, 3)
    R*(p, k) = R(p, k) and every R(g, k/2), g in R(p, k), of which R(p, k) holds two thirds or more                  (5)
    V_p(g)   = exp(-d(p, g)) for g in R*(p, k1), else 0,   d = 1 - cosine                                            (7)
    V_p     := mean of V_g over g in N(p, k2)                                                                       (11)
    J(p, g)  = sum_i min(V_p(i), V_g(i)) / sum_i max(V_p(i), V_g(i))                                                (10)
    s(p, g)  = (1 - lambda) J(p, g) + lambda cosine(p, g)                                                           (12)

s is 1 minus the paper's distance, so it ranks the same. k/2 is rounded up. Where the query is an item of the gallery,
the sets are those of the paper. Where it is not, it is placed into the gallery alone, beside no other query, and what
the gallery's items are to each other is taken without it: N(g, k) takes it in where it is at least as near as the last.

Source: Zhong, Zheng, Cao and Li, Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, arXiv
1701.08398.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pullpush.evaluation.knn import Floats, Ints, Neighbours, cells
from pullpush.evaluation.rerank.expansion import lists

__all__ = ["Reciprocal"]

ROWS = 4096
"""Items whose sets are grown at once."""
PAIRS = 1 << 16
"""Pairs whose cosine is computed at once."""


@dataclass(frozen=True)
class Sets:
    """V of some items, averaged."""

    values: sparse.csr_matrix
    """`[items, gallery]`."""
    mass: NDArray[np.float64]
    """`[items]`: the sum of each row, with what of it is not in the gallery."""


@dataclass(frozen=True)
class Reciprocal:
    """J of queries and gallery, a query at a time."""

    own: Ints
    """`[queries]`: the item of the gallery that a query is, or -1."""
    gallery: Sets
    columns: sparse.csc_matrix
    """The gallery's V by column."""
    others: Sets
    """Of the queries that are no items of the gallery, in their order."""
    number: Ints
    """`[queries]`: their rows in `others`."""

    @classmethod
    def of(
        cls, queries: Floats, gallery: Floats, own: Ints, query_near: Neighbours, near: Neighbours, k1: int, k2: int
    ) -> "Reciprocal":
        """Args:
        queries, gallery: float32 `[q, dim]` and `[m, dim]`, of unit length.
        own: as above.
        query_near: `[q, k1 - 1]`, the nearest of the gallery for each query, itself not among them.
        near: `[m, k1 - 1]`, the nearest others of each item of the gallery; -1 where there are fewer.
        k1, k2: of the formulas.
        """
        itself = sparse.identity(len(gallery), np.float32, "csr")
        mutual, half = (_mutual(_lists(near, k, len(gallery)) + itself) for k in (k1, -(-k1 // 2)))
        values = _values(_grown(mutual, half), gallery, gallery)
        known = _averaged(_lists(near, k2, len(gallery)) + itself, values)
        outside = np.flatnonzero(own < 0)
        close = Neighbours(query_near.indices[outside], query_near.similarities[outside])
        there = close.similarities >= near.similarities[:, k1 - 2][close.indices]  # then g would take p in
        takes_in = _lists(Neighbours(np.where(there, close.indices, -1), close.similarities), k1, len(gallery))
        mine = _values(_grown(takes_in, half), queries[outside], gallery)
        others = _averaged(_lists(close, k2, len(gallery)), values, mine)
        return cls(own, known, known.values.tocsc(), others, np.cumsum(own < 0) - 1)

    def add(self, start: int, block: Floats, weight: float) -> None:
        """Makes cosines re-ranked similarities.

        Args:
            start: number of the first query.
            block: cosines `[rows, m]` of the queries from there on.
            weight: lambda.
        """
        block *= np.float32(weight)
        for query, cosines in enumerate(block, start):
            items, jaccard = self._jaccard(query)
            cosines[items] += (1 - weight) * jaccard

    def _jaccard(self, query: int) -> tuple[Ints, NDArray[np.float64]]:
        """The items that have something in common with a query, and J with each.

        Most of the time of re-ranking is spent here; `take` is quicker than brackets.
        """
        own = int(self.own[query])
        sets, row = (self.gallery, own) if own >= 0 else (self.others, int(self.number[query]))
        entries = slice(sets.values.indptr[row], sets.values.indptr[row + 1])
        first, last = (self.columns.indptr[sets.values.indices[entries] + shift].astype(np.int64) for shift in (0, 1))
        entry, at = cells(first, last)
        both = self.columns.data.take(at)
        np.minimum(both, sets.values.data[entries].take(entry), out=both)
        common = np.bincount(self.columns.indices.take(at), both)
        items = np.flatnonzero(common > 0)
        common = common.take(items)
        return items, common / (sets.mass[row] + self.gallery.mass.take(items) - common)


def _lists(near: Neighbours, k: int, width: int) -> sparse.csr_matrix:
    """N(p, k) without p, as ones in `[items, width]`."""
    fewer = Neighbours(near.indices[:, : k - 1], near.similarities[:, : k - 1])
    return lists(fewer, np.ones(fewer.indices.shape, np.float32), width)


def _mutual(among: sparse.csr_matrix) -> sparse.csr_matrix:
    """R of N."""
    return among.multiply(among.T).tocsr()


def _grown(mutual: sparse.csr_matrix, half: sparse.csr_matrix) -> sparse.csr_matrix:
    """R* of R(p, k), `[items, gallery]`, and R(g, k/2), `[gallery, gallery]`: not 0 where it holds an item."""
    size = np.diff(half.indptr)
    grown = [mutual[:0]]
    for start in range(0, mutual.shape[0], ROWS):
        part = mutual[start : start + ROWS]
        common = part.multiply(part @ half.T).tocsr()  # |R(p, k) and R(g, k/2)|, g in R(p, k)
        common.data = (3 * common.data >= 2 * size[common.indices]).astype(np.float32)
        common.eliminate_zeros()
        grown.append(part + common @ half)
    return sparse.vstack(grown, "csr")


def _values(sets: sparse.csr_matrix, queries: Floats, gallery: Floats) -> sparse.csr_matrix:
    """V of R*."""
    rows = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))
    cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), PAIRS):
        at = slice(start, start + PAIRS)
        np.einsum("ij,ij->i", queries[rows[at]], gallery[sets.indices[at]], out=cosines[at])
    return sparse.csr_matrix((np.exp(cosines - 1), sets.indices, sets.indptr), shape=sets.shape)


def _averaged(among: sparse.csr_matrix, values: sparse.csr_matrix, own: sparse.csr_matrix | None = None) -> Sets:
    """The mean of V over N(p, k2).

    Args:
        among: N(p, k2), `[items, gallery]`; without p where p is no item of the gallery.
        values: V of the gallery.
        own: V of such items, without what they are to themselves, which is 1.
    """
    count = np.diff(among.indptr) + (own is not None)
    total = among @ values if own is None else among @ values + own
    means = sparse.csr_matrix(total.multiply((1 / np.maximum(count, 1))[:, None]), dtype=np.float32)
    mass = np.asarray(means.sum(axis=1, dtype=np.float64)).ravel()
    return Sets(means, mass if own is None else mass + 1 / count)
