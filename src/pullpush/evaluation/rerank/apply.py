"""Re-ranking of queries against a gallery: both sides moved, and what is changed in their similarities."""

import numpy as np

from pullpush.encoders.rerank import Rerank
from pullpush.evaluation import knn
from pullpush.evaluation.knn import Floats, Ints, Neighbours, Space, unit
from pullpush.evaluation.rerank.expansion import Alone, expanded
from pullpush.evaluation.rerank.reciprocal import Reciprocal

__all__ = ["rerank"]


def rerank(queries: Floats, gallery: Floats, own: Ints, options: Rerank, seed: int = 0) -> Space:
    """Re-ranks as the options say; each part starts from the embeddings that are given, not from what another has made.

    Neighbours of a query are items of the gallery other than itself. Whom the items that are tied at the end of a list
    of neighbours favour is decided by a seeded draw, not by the order in which they are stored, which may be that of
    the classes.

    Args:
        queries: float32 `[q, dim]`.
        gallery: float32 `[m, dim]`, each item once.
        own: `[q]`, the item of the gallery that each query is, by its id, or -1.
        options: what to do.
        seed: of that draw.

    Returns:
        Both sides, moved, and how their cosines become what the ranking goes by: a similarity, as `knn` takes one.
    """
    queries, gallery = unit(queries), unit(gallery)
    order = np.random.default_rng(seed).permutation(len(gallery))
    set_size = max(options.reciprocal - 1, 0)
    deepest = max(options.augment + 1 if options.augment else 0, set_size)
    # each query is an item of the gallery, and was embedded as that
    inside = bool((own >= 0).all()) and np.array_equal(queries, gallery[own])
    near = _nearest(gallery, gallery, np.arange(len(gallery)), order, max(deepest, options.expand if inside else 0))
    if inside:
        close = Neighbours(near.indices[own], near.similarities[own])
    else:
        close = _nearest(queries, gallery, own, order, max(options.expand, set_size))
    moved, augmented, left_out, reciprocal = queries, gallery, None, None
    if options.expand:
        moved = unit(expanded(queries, gallery, _first(close, options.expand), options.alpha))
    if options.augment:
        augmented = unit(expanded(gallery, gallery, _first(near, options.augment), options.alpha))
        left_out = Alone.of(gallery, _first(near, options.augment + 1), options.alpha)
    if options.reciprocal:
        sets = _first(close, set_size), _first(near, set_size)
        reciprocal = Reciprocal.of(queries, gallery, own, *sets, options.reciprocal, options.averaged)

    def adjust(start: int, block: Floats) -> None:
        at = slice(start, start + len(block))
        if left_out is not None:
            left_out.put(block, moved[at], own[at])
        if reciprocal is not None:
            reciprocal.add(start, block, options.weight)

    return Space(moved, augmented, np.ones(len(moved)), adjust)


def _nearest(queries: Floats, gallery: Floats, own: Ints, order: Ints, k: int) -> Neighbours:
    """The k nearest of the gallery, itself left out, with ties in the order given."""
    if not k:
        return Neighbours(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
    ids = np.where(own >= 0, own, -1 - np.arange(len(own)))
    near = knn.search(queries, gallery[order], k, query_ids=ids, gallery_ids=order)
    return near._replace(indices=np.where(near.indices >= 0, order[near.indices], -1))


def _first(near: Neighbours, k: int) -> Neighbours:
    return Neighbours(near.indices[:, :k], near.similarities[:, :k])
