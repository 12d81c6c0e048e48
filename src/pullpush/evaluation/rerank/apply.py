"""Re-ranking of queries against a gallery: new embeddings, and what is changed in their similarities."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pullpush.evaluation import knn
from pullpush.evaluation.knn import Floats, Ints, Neighbours, unit
from pullpush.evaluation.rerank.expansion import Alone, expanded
from pullpush.evaluation.rerank.options import Rerank
from pullpush.evaluation.rerank.reciprocal import Reciprocal

__all__ = ["Reranked", "rerank"]


@dataclass(frozen=True)
class Reranked:
    """What a ranking goes by.

    Attributes:
        queries, gallery: float32 `[q, dim]` and `[m, dim]`, of unit length, whose cosines come first.
        adjust: `adjust(block, rows, place)` makes the cosines `[rows, columns]` of the queries `rows` what the ranking
            goes by; `place` `[m]` is the column of each item of the gallery. None where the cosines are it.
    """

    queries: Floats
    gallery: Floats
    adjust: Callable[[Floats, Ints, Ints], None] | None = None


def rerank(queries: Floats, gallery: Floats, own: Ints, options: Rerank, seed: int = 0) -> Reranked:
    """Re-ranks as the options say; each part starts from the embeddings that are given, not from what another has made.

    Neighbours of a query are items of the gallery other than itself. Whom the items that are tied at the end of a list
    of neighbours favour is decided by a seeded draw, not by the order in which they are stored, which may be that of
    the classes.

    Args:
        queries: float32 `[q, dim]`; the same array as the gallery where each item is compared with the others.
        gallery: float32 `[m, dim]`, each item once.
        own: `[q]`, the item of the gallery that each query is, by its id, or -1.
        options: what to do.
        seed: of that draw.
    """
    alone = queries is gallery
    gallery = unit(gallery)
    queries = gallery if alone else unit(queries)
    order = np.random.default_rng(seed).permutation(len(gallery))
    every = np.arange(len(gallery))
    set_size = max(options.reciprocal - 1, 0)
    deepest = max(options.augment + 1 if options.augment else 0, set_size)
    near = _nearest(gallery, gallery, every, order, max(deepest, options.expand if alone else 0))
    close = near if alone else _nearest(queries, gallery, own, order, max(options.expand, set_size))
    moved, augmented, left_out, reciprocal = queries, gallery, None, None
    if options.expand:
        moved = unit(expanded(queries, gallery, _first(close, options.expand), options.alpha))
    if options.augment:
        augmented = unit(expanded(gallery, gallery, _first(near, options.augment), options.alpha))
        left_out = Alone.of(gallery, _first(near, options.augment + 1), options.alpha)
    if options.reciprocal:
        sets = _first(close, set_size), _first(near, set_size)
        reciprocal = Reciprocal.of(queries, gallery, own, *sets, options.reciprocal, options.averaged)

    def adjust(block: Floats, rows: Ints, place: Ints) -> None:
        if left_out is not None:
            left_out.put(block, moved[rows], own[rows], place)
        if reciprocal is not None:
            reciprocal.add(block, rows, place, options.weight)

    return Reranked(moved, augmented, adjust if left_out is not None or reciprocal is not None else None)


def _nearest(queries: Floats, gallery: Floats, own: Ints, order: Ints, k: int) -> Neighbours:
    """The k nearest of the gallery, itself left out, with ties in the order given."""
    if not k:
        return Neighbours(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
    ids = np.where(own >= 0, own, -1 - np.arange(len(own)))
    found = knn.search(queries, gallery[order], k, query_ids=ids, gallery_ids=order)
    return found._replace(indices=np.where(found.indices >= 0, order[found.indices], -1))


def _first(near: Neighbours, k: int) -> Neighbours:
    return Neighbours(near.indices[:, :k], near.similarities[:, :k])
