"""Nearest references of a split's queries, and where the first right one stands, as `evaluate` has them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation.protocols import evaluate_items, protocol_for
from pullpush.reports.run import Absent


@dataclass(frozen=True)
class Ranking:
    """What a split's queries find; all rows are row numbers of the split.

    `queries` [q]: the rows that have a positive among the references. `nearest` [q, k]: the references in falling order
    of similarity; -1 where there are fewer than k. `hit` [q]: recall@1 of each query, 0 or 1 but for ties. `place` [q]:
    the rank of the first positive, the expected one among the tied. `left_out`: queries without a positive.
    `references`: how many there are. `embeddings`: `[n, dim]`, normalised, a row an item.
    """

    queries: NDArray[np.int64]
    nearest: NDArray[np.int64]
    hit: NDArray[np.float64]
    place: NDArray[np.float64]
    left_out: int
    references: int
    embeddings: NDArray[np.float32]

    def first(self, items: Items, query: int) -> int:
        """The row of the positive that is nearest to query number `query`."""
        labels, ids = items.table["label"].to_numpy(), items.table["id"].to_numpy()
        row, gallery = self.queries[query], roles(items)[1]
        positives = gallery[(labels[gallery] == labels[row]) & (ids[gallery] != ids[row])]
        return int(positives[(self.embeddings[positives] @ self.embeddings[row]).argmax()])


def roles(items: Items) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of the queries and of the gallery; the same rows when every item is both (leave-one-out)."""
    role = items.table["role"].to_numpy()
    return np.flatnonzero(role != "gallery"), np.flatnonzero(role != "query")


def rank(embeddings: NDArray[np.float32], items: Items, k: int = 5) -> Ranking:
    """The evaluation of a split, by the protocol of the run: its recall@1 is the mean of `hit`, to the last digit.

    Args: embeddings, `[n, dim]`, normalised, a row an item.
    Raises: Absent where no query has a positive, or there are no queries or no gallery.
    """
    protocol = replace(protocol_for(items), draws=0)
    try:
        found = evaluate_items(embeddings, items, protocol, nmi=False, neighbours=k)
    except UserError as error:
        raise Absent(str(error)) from None
    per_query = found.per_query
    counted = ((per_query["positives"] > 0) & ~per_query["id"].duplicated()).to_numpy()
    return Ranking(
        queries=per_query.index.to_numpy()[counted],
        nearest=found.neighbours.indices[counted],
        hit=per_query["recall@1"].to_numpy()[counted],
        place=per_query["rank"].to_numpy()[counted],
        left_out=found.left_out,
        references=len(np.unique(items.table["id"].to_numpy()[roles(items)[1]])),
        embeddings=embeddings,
    )
