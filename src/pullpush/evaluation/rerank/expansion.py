"""Query expansion and database-side augmentation: each vector is moved towards its nearest neighbours."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from pullpush.evaluation.knn import Floats, Ints, Neighbours, cells, unit

__all__ = ["Alone", "expanded", "weights"]

AT_ONCE = 1 << 22
"""Numbers of vectors that are gathered at once: 16 MB."""


def weights(near: Neighbours, alpha: float) -> Floats:
    """max(cosine, 0)^alpha of each neighbour, `[n, k]`; 0 where there is none."""
    cosines = near.similarities
    return np.where(cosines > 0, np.where(cosines > 0, cosines, 1.0) ** alpha, 0.0).astype(np.float32)


def expanded(vectors: Floats, gallery: Floats, near: Neighbours, alpha: float) -> Floats:
    """Alpha query expansion, before it is made of unit length:

        q' = q + sum_{i=1..n} max(q.g_i, 0)^alpha g_i,    g_1, ..., g_n the nearest of the gallery

    The vector itself counts with the weight 1, as its own first neighbour (cosine 1). With alpha = 0 it is average
    query expansion (Chum et al. 2007). Of the gallery's own items it is database-side augmentation (Arandjelovic and
    Zisserman 2012). An item of negative cosine counts nothing.

    Args:
        vectors: float32 `[q, dim]`, of unit length.
        gallery: float32 `[m, dim]`, of unit length.
        near: `[q, n]`, the nearest of the gallery for each vector, -1 where there are fewer.
        alpha: 0 or more.

    Returns:
        float32 `[q, dim]`.

    Source: Radenovic, Tolias and Chum, Fine-tuning CNN Image Retrieval with No Human Annotation, 2018, arXiv
    1711.02512, section 3.4.
    """
    return np.asarray(vectors + lists(near, weights(near, alpha), len(gallery)) @ gallery, np.float32)


def lists(near: Neighbours, values: Floats, width: int) -> sparse.csr_matrix:
    """Values of neighbours as a sparse matrix `[n, width]`; what is not there is left out, zeros are kept."""
    there = near.indices >= 0
    starts = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    return sparse.csr_matrix((values[there], near.indices[there], starts), shape=(len(near.indices), width))


@dataclass(frozen=True)
class Alone:
    """The similarity of a query to an augmented item that had the query itself among its neighbours.

    A query that is an item of the gallery takes no part in what the gallery does for it: it is left out, and the next
    neighbour takes its place, as if the gallery had been augmented without it. Otherwise items would be helped by
    having moved others towards themselves.
    """

    gallery: Floats
    totals: Floats
    """`[m, dim]`: each item with its n + 1 neighbours, weighted."""
    held: sparse.csr_matrix
    """`[m, m]`: row q, column g: the weight of q among the n neighbours of g."""

    @classmethod
    def of(cls, gallery: Floats, near: Neighbours, alpha: float) -> "Alone":
        """`near`: the n + 1 nearest of each item."""
        given = weights(near, alpha)
        fewer = Neighbours(near.indices[:, :-1], near.similarities[:, :-1])
        held = lists(fewer, given[:, :-1], len(gallery)).T.tocsr()
        return cls(gallery, expanded(gallery, gallery, near, alpha), held)

    def put(self, block: Floats, queries: Floats, own: Ints) -> None:
        """Puts those similarities into a block.

        Args:
            block: similarities `[rows, m]`.
            queries: float32 `[rows, dim]`, expanded, of unit length.
            own: `[rows]`, the item of the gallery that each query is, or -1.
        """
        first = np.where(own >= 0, self.held.indptr[own], 0).astype(np.int64)
        last = np.where(own >= 0, self.held.indptr[own + 1], 0).astype(np.int64)
        rows, at = cells(first, last)
        step = max(1, AT_ONCE // self.gallery.shape[1])
        for start in range(0, len(rows), step):
            row, cell = rows[start : start + step], at[start : start + step]
            item = self.held.indices[cell]
            vectors = unit(self.totals[item] - self.held.data[cell, None] * self.gallery[own[row]])
            block[row, item] = np.einsum("ij,ij->i", queries[row], vectors)
