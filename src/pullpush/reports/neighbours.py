"""Nearest references of a split's queries, and where the first right one stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.reports.run import Missing


@dataclass(frozen=True)
class Ranking:
    """What a split's queries find; all rows are row numbers of the split.

    `queries` [q]: the rows that have a positive among the references. `nearest` [q, k]: the references in falling order
    of similarity; -1 where there are fewer than k. `hit` [q]: recall@1 of each query, the share of positives among the
    references that are most similar (0 or 1 but for ties). `place` [q]: the place of the first positive, behind every
    negative that is as similar; `first` [q]: the row of that positive. `left_out`: queries without a positive.
    `references`: how many there are.
    """

    queries: NDArray[np.int64]
    nearest: NDArray[np.int64]
    hit: NDArray[np.float64]
    place: NDArray[np.int64]
    first: NDArray[np.int64]
    left_out: int
    references: int


def roles(items: Items) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of the queries and of the gallery; the same rows when every item is both (leave-one-out)."""
    role = items.table["role"].to_numpy()
    return np.flatnonzero(role != "gallery"), np.flatnonzero(role != "query")


def rank(embeddings: NDArray[np.float32], items: Items, k: int = 5, chunk: int = 1024) -> Ranking:
    """Rank the gallery of a split for each of its queries by cosine similarity, in chunks of queries.

    An item is never a reference of itself, which ids decide. Args: embeddings, `[n, dim]`, normalised, a row an item.
    """
    query_rows, gallery_rows = (torch.from_numpy(rows) for rows in roles(items))
    if not len(query_rows) or not len(gallery_rows):
        raise Missing("The split has no queries or no gallery.")
    x = torch.from_numpy(embeddings)
    gallery, labels, ids = x[gallery_rows], items.labels, items.ids
    k = min(k, len(gallery_rows))
    parts: list[tuple[torch.Tensor, ...]] = []
    for rows in query_rows.split(chunk):
        similarity = x[rows] @ gallery.T
        itself = ids[rows, None] == ids[None, gallery_rows]
        positive = (labels[rows, None] == labels[None, gallery_rows]) & ~itself
        similarity.masked_fill_(itself, -torch.inf)
        top, column = similarity.topk(k, dim=1)
        tied = similarity == top[:, :1]
        hit = (tied & positive).sum(1) / tied.sum(1)
        best, right = similarity.masked_fill(~positive, -torch.inf).max(1)
        place = 1 + ((similarity >= best[:, None]) & ~positive & ~itself).sum(1)
        nearest = gallery_rows[column].masked_fill(top.isneginf(), -1)
        keep = positive.any(1)
        parts.append(tuple(t[keep] for t in (rows, nearest, hit.double(), place, gallery_rows[right])))
    columns = [torch.cat(part).numpy() for part in zip(*parts, strict=True)]
    left_out = len(query_rows) - len(columns[0])
    if not len(columns[0]):
        raise Missing("No query has a positive in the gallery.")
    return Ranking(*columns, left_out=left_out, references=len(gallery_rows))
