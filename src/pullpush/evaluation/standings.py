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
from pullpush.evaluation.neighbours import (
    Floats,
    Ints,
    Neighbours,
    empty_neighbours,
    for_each_block,
    largest,
    mask_own,
    positions,
    prepare,
    shortlist,
)
from pullpush.maths import metrics
from pullpush.maths.metrics import Standing


@dataclass(frozen=True)
class Side:
    """One side of the rectangle: rows of queries, or of the gallery."""

    embeddings: Floats
    labels: Ints
    ids: Ints | None


def measure(
    queries: Side, gallery: Side, ks: tuple[int, ...], neighbours: int, similarity: str
) -> tuple[dict[str, NDArray[np.float64]], Neighbours]:
    """Every metric of every query (`[queries]`, NaN without a positive), and its nearest items of the gallery.

    Names: `positives` (R), `rank` (of the nearest positive), `recall@k`, `r_precision`, `map@r`.
    Rows of the gallery whose id was seen before are the same item listed twice, and are passed over.
    """
    rows = unique_rows(gallery)
    # ordered by class, the positives of a query are one slice of its row of similarities
    rows = rows[np.argsort(gallery.labels[rows], kind="stable")]
    labels = gallery.labels[rows]
    first, last = (np.searchsorted(labels, queries.labels, side=side) for side in ("left", "right"))
    own = np.full(len(queries.labels), -1)
    if queries.ids is not None and gallery.ids is not None:
        own = positions(queries.ids, gallery.ids[rows])
    r = last - first - ((own >= first) & (own < last))

    # queries with equally many positives come together, so that no block is padded much
    order = np.argsort(r, kind="stable")
    space = prepare(queries.embeddings, gallery.embeddings, similarity)
    names = ["positives", "rank", *(f"recall@{k}" for k in ks), "r_precision", "map@r"]
    values = {name: np.full(len(r), np.nan) for name in names}
    found = empty_neighbours(len(r), neighbours)

    def work(start: int, block: Floats) -> None:
        at = order[start : start + len(block)]
        mask_own(block, own[at])
        depth = max(neighbours, int(r[at].max()), 1)
        near = shortlist(block, depth, 3 * space.tolerance[at])
        for query, (columns, similarities) in zip(at if neighbours else (), near, strict=False):
            columns, similarities = largest(columns, similarities, neighbours)
            found.indices[query, : len(columns)] = rows[columns]
            found.similarities[query, : len(columns)] = similarities
        standing = stand(block, near, first[at], last[at], r[at], space.tolerance[at])
        for name, value in _metrics(standing, ks).items():
            values[name][at] = value.numpy()

    for_each_block(space.queries[order], space.gallery[rows], work)
    return values, found


def stand(
    block: Floats, near: list[tuple[Ints, Floats]], first: Ints, last: Ints, r: Ints, tolerance: Floats
) -> Standing:
    """The standing of the positives of each row; they are its columns first:last, its own column is -inf.

    Exact for the best positive at any depth, and for every positive that can be among the R nearest. No metric asks
    where the others stand, so they are put right below the shortlist.

    Args:
        block: similarities `[queries, gallery]`.
        near: the `shortlist` of at least the R nearest of each row, with a slack of more than twice the tolerance.
        first, last: `[queries]`, the slice of positives.
        r: `[queries]`, how many of the slice are positives (one fewer where it holds the query itself).
        tolerance: `[queries]`, similarities that differ by less are tied.
    """
    above, tied, positives_above, positives_tied = np.zeros((4, len(block), int(r.max(initial=0))), dtype=np.int64)
    for i, row in enumerate(block):
        n = r[i]
        if not n:
            continue
        positive = np.sort(row[first[i] : last[i]])[-n:]
        edges = np.concatenate([positive - tolerance[i], positive + tolerance[i]])
        ranked = np.sort(near[i][1])
        for among, higher, equal in ((ranked, above, tied), (positive, positives_above, positives_tied)):
            place = among.searchsorted(edges)[::-1]  # best first
            higher[i, :n] = len(among) - place[:n]
            equal[i, :n] = place[:n] - place[n:]
        if edges[n - 1] < ranked[0]:  # the best, or some tied with it, are not in the shortlist
            above[i, 0] = np.count_nonzero(row >= edges[-1])
            tied[i, 0] = np.count_nonzero(row >= edges[n - 1]) - above[i, 0]
    exists = np.arange(above.shape[1]) < r[:, None]
    return Standing(*map(torch.from_numpy, (above, tied, positives_above, positives_tied, exists)))


def unique_rows(side: Side) -> Ints:
    """The first row of each id, in order; all rows where there are no ids."""
    if side.ids is None:
        return np.arange(len(side.labels))
    _, rows, inverse = np.unique(side.ids, return_index=True, return_inverse=True)
    clash = side.labels != side.labels[rows][inverse]
    if clash.any():
        at = int(clash.argmax())
        raise UserError(
            f"id {side.ids[at]} has two labels ({side.labels[rows][inverse][at]} and {side.labels[at]}); "
            "an id names one item: give each item its own."
        )
    return np.sort(rows)


def _metrics(standing: Standing, ks: tuple[int, ...]) -> dict[str, Any]:
    return {
        "positives": metrics.positives(standing),
        "rank": metrics.first_rank(standing),
        **{f"recall@{k}": metrics.recall_at_k(standing, k) for k in ks},
        "r_precision": metrics.r_precision(standing),
        "map@r": metrics.map_at_r(standing),
    }
