"""Where the positives of each query stand, block by block: exact ranks with ties counted, at any depth.

No list of a thousand neighbours is made. Recall@k asks where the best positive stands, at any depth: a count over the
row of similarities. R-precision and MAP@R ask which positives are among the R nearest: a short list of those, with
whatever ties with its end. So recall@1000 costs what recall@1 costs, and a tie is seen whole wherever it lies.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.errors import UserError
from pullpush.evaluation import knn
from pullpush.evaluation.knn import Floats, Ints, Neighbours, Shortlist, Similarity, keys
from pullpush.evaluation.metrics import per_query
from pullpush.evaluation.metrics.base import Standing, first_rank

__all__ = ["NEAREST", "Side", "measure", "stand", "unique_rows"]

TIE = 16 * float(np.finfo(np.float32).eps)
"""Similarities that differ by less than this, times the largest possible one, are tied. Equal vectors give similarities
that differ in the last bits, according to the place in the matrix product where they were computed."""

NEAREST = ("nearest_positive", "nearest_negative")


@dataclass(frozen=True)
class Side:
    """One side of the rectangle: rows of queries, or of the gallery."""

    embeddings: Floats
    labels: Ints
    ids: Ints | None
    label_names: NDArray[Any] | None = None
    """What stands for the labels, where they were names; so for the ids."""
    id_names: NDArray[Any] | None = None


def measure(
    queries: Side,
    gallery: Side,
    ks: tuple[int, ...],
    neighbours: int,
    similarity: Similarity,
) -> tuple[dict[str, NDArray[Any]], Neighbours, int]:
    """What is measured of every query (`[queries]`), its nearest items of the gallery, and how many those are.

    Names: `positives` (R), `rank` (of the nearest positive), `nearest_positive` and `nearest_negative` (row numbers of
    the gallery, -1 for none), and each metric; NaN without a positive.
    Rows of the gallery whose id was seen before are the same item listed twice, and are passed over.
    """
    unique_rows(queries)
    rows = unique_rows(gallery)
    # ordered by class, the positives of a query are one slice of its row of similarities
    rows = rows[np.argsort(gallery.labels[rows], kind="stable")]
    labels = gallery.labels[rows]
    first, last = (np.searchsorted(labels, queries.labels, side=side) for side in ("left", "right"))
    own = np.full(len(queries.labels), -1)
    if queries.ids is not None and gallery.ids is not None:
        own = knn.positions(queries.ids, gallery.ids[rows])
    r = last - first - ((own >= first) & (own < last))

    # queries with equally many positives come together, so that no block is padded much
    order = np.argsort(r, kind="stable")
    functions = {"rank": first_rank, **per_query(ks)}
    values: dict[str, NDArray[Any]] = {"positives": r}
    values |= {name: np.full(len(r), -1) for name in NEAREST}
    values |= {name: np.full(len(r), np.nan) for name in functions}
    closest = Neighbours(np.empty((len(r), neighbours), np.int64), np.empty((len(r), neighbours), np.float32))

    def work(start: int, block: Floats) -> None:
        at = order[start : start + len(block)]
        if space.adjust is not None:
            space.adjust(start, block)
        scale = space.scale[start : start + len(block)]
        knn.mask_own(block, own[at])
        near = knn.shortlist(block, max(neighbours, int(r[at].max()), 1), 3 * TIE * scale)
        if neighbours:
            columns, closest.similarities[at] = knn.nearest(block, near, neighbours, scale)
            closest.indices[at] = np.where(columns >= 0, rows[columns], -1)
        standing = stand(block, near, first[at], last[at], own[at], scale)
        for name, function in functions.items():
            values[name][at] = function(standing).numpy()
        for name, columns in zip(NEAREST, _nearest_of_each(block, first[at], last[at]), strict=True):
            values[name][at] = np.where(columns >= 0, rows[columns], -1)

    space = knn.prepare(queries.embeddings[order], gallery.embeddings[rows], similarity, own[order])
    knn.for_each_block(space.queries, space.gallery, work)
    return values, closest, len(rows)


def _nearest_of_each(block: Floats, first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """The largest of the columns first:last of each row, and of all others, -1 where there is none; the block, in which
    the query's own column is -inf, is of no use afterwards."""
    positive = np.full(len(block), -1)
    for i in np.flatnonzero(last > first):
        at = first[i] + int(block[i, first[i] : last[i]].argmax())
        positive[i] = at if block[i, at] > -np.inf else -1
        block[i, first[i] : last[i]] = -np.inf
    negative = block.argmax(axis=1)
    return positive, np.where(block[np.arange(len(block)), negative] > -np.inf, negative, -1)


def stand(block: Floats, near: Shortlist, first: Ints, last: Ints, own: Ints, scale: NDArray[np.float64]) -> Standing:
    """The standing of the positives of each row, which are its columns first:last without its own, which is -inf.

    Exact for the best positive at any depth, and for every positive that can be among the R nearest. No metric asks
    where the others stand, so they are put right below the shortlist.

    Args:
        block: similarities `[queries, gallery]`.
        near: the shortlist of at least the R nearest of each row, with a slack of more than twice the tie's width.
        first, last: `[queries]`, the slice of columns of the query's class.
        own: `[queries]`, the query's own column, or -1.
        scale: `[queries]`, the largest possible similarity.
    """
    rows, columns = knn.cells(first, last)
    other = columns != own[rows]
    rows, columns = rows[other], columns[other]
    starts = np.searchsorted(rows, np.arange(len(block) + 1))
    key = np.sort(keys(rows, block[rows, columns], scale))  # within each row, best first
    near_key = np.sort(keys(near.rows, near.values, scale))

    place, width = np.arange(len(rows)) - starts[rows], int(np.diff(starts).max(initial=0))
    above, tied, positives_above, positives_tied = counts = np.zeros((4, len(block), width), dtype=np.int64)
    for higher, equal, among, begin in (
        (above, tied, near_key, near.starts),
        (positives_above, positives_tied, key, starts),
    ):
        edges = (np.searchsorted(among, key + shift, side="right") - begin[rows] for shift in (-TIE, TIE))
        higher[rows, place], reach = edges
        equal[rows, place] = reach - higher[rows, place]

    for i, ordered in zip(near.dense, near.ordered, strict=True):
        own_key = key[starts[i] : starts[i + 1]]
        all_keys = keys(np.array([i]), ordered[::-1], scale)
        higher, reach = (np.searchsorted(all_keys, own_key + shift, side="right") for shift in (-TIE, TIE))
        above[i, : len(own_key)], tied[i, : len(own_key)] = higher, reach - higher

    listed = np.diff(starts) > 0
    listed[near.dense] = False
    has = np.flatnonzero(listed)
    best, farthest = key[starts[has]], near_key[near.starts[has + 1] - 1]
    for i in has[best + TIE > farthest]:  # the best positive, or some tied with it, are not in the shortlist
        value = 4.0 * i - key[starts[i]]
        above[i, 0], reach = (np.count_nonzero(block[i] >= np.float32((value + t) * scale[i])) for t in (TIE, -TIE))
        tied[i, 0] = reach - above[i, 0]
    exists = np.arange(width) < np.diff(starts)[:, None]
    return Standing(*map(torch.from_numpy, (*counts, exists)))


def unique_rows(side: Side) -> Ints:
    """The first row of each id, in order; all rows where there are no ids."""
    if side.ids is None:
        return np.arange(len(side.labels))
    _, rows, inverse = np.unique(side.ids, return_index=True, return_inverse=True)
    clash = side.labels != side.labels[rows][inverse]
    if clash.any():
        at = int(clash.argmax())
        pair = (side.labels[rows][inverse][at], side.labels[at])
        first, second = pair if side.label_names is None else side.label_names[list(pair)]
        own = side.ids[at] if side.id_names is None else side.id_names[side.ids[at]]
        raise UserError(
            f"id {own} has two labels ({first} and {second}); an id names one item: give each item its own."
        )
    return np.sort(rows)
