"""Re-ranking when a query is answered: from the nearest items of the index as it is, so that nothing has to be kept.

Query expansion searches again, with a query that its nearest have moved. Augmentation and k-reciprocal sets put the
nearest `CANDIDATES` into a new order: these are the gallery, and all other items follow as they were. Where the index
has no more items than that, it is what `evaluate` does with queries against a gallery.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pullpush.evaluation.knn import Neighbours, unit
from pullpush.evaluation.rerank import Rerank, rerank
from pullpush.evaluation.rerank.expansion import expanded

__all__ = ["CANDIDATES", "nearest"]

CANDIDATES = 200
"""So many of the nearest are put into a new order. All that is asked of them is computed in milliseconds."""

Found = tuple[np.ndarray, np.ndarray]


def nearest(
    query: np.ndarray,
    k: int,
    options: Rerank,
    search: Callable[[np.ndarray, int], Found],
    vectors_of: Callable[[np.ndarray], np.ndarray],
) -> Found:
    """The best `k` items by the re-ranked similarity.

    Args:
        query: float32 `[dim]`, of length 1.
        k: how many.
        options: what to do.
        search: of a vector and k: scores and rows of its nearest, nearest first.
        vectors_of: the embeddings of rows, `[n, dim]`.

    Returns:
        The cosines with the query as it was given, which mean what they do without re-ranking, and the rows; in the
        order of the re-ranked similarity.
    """
    scores, rows = search(query, max(k, CANDIDATES))
    moved = query[None]
    if options.expand and len(rows):
        first = rows[: options.expand]
        near = Neighbours(np.arange(len(first))[None], scores[None, : len(first)].astype(np.float32))
        moved = unit(expanded(moved, vectors_of(first), near, options.alpha))
        rows = search(moved[0], max(k, CANDIDATES))[1]
        scores = vectors_of(rows) @ query
    if len(rows) > 1 and (options.augment or options.reciprocal):
        some = slice(0, CANDIDATES)
        made = rerank(query[None], vectors_of(rows[some]), np.array([-1]), replace(options, expand=0))
        block = moved @ made.gallery.T
        if made.adjust is not None:
            made.adjust(0, block)
        order = np.argsort(-block[0], kind="stable")
        rows[some], scores[some] = rows[some][order], scores[some][order]
    return scores[:k], rows[:k]
