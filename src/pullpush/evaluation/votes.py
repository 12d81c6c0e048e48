"""The class that the nearest neighbours vote for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pullpush.errors import UserError
from pullpush.evaluation import knn
from pullpush.evaluation.evaluate import sides
from pullpush.evaluation.knn import Floats, Ints
from pullpush.evaluation.ranks import TIE, Side, unique_rows

__all__ = ["KNN", "knn_accuracy"]

KNN = (1, 5, 20)
TEMPERATURE = 0.07
ROWS = 1 << 22
"""Similarities looked at together: where all are tied, each of them is in a list."""


def knn_accuracy(
    embeddings: Any,
    labels: Any,
    ids: Any = None,
    *,
    ks: Sequence[int] = KNN,
    temperature: float = TEMPERATURE,
) -> dict[int, float]:
    r"""The share of items whose class the k nearest others vote for (leave one out).

    A class $c$ has the votes $\sum_{i \in c} \exp(s_i / \tau)$ of those of the k nearest that are of it, with the
    cosine $s_i$ (Wu, Xiong, Yu, Lin 2018, Unsupervised feature learning via non-parametric instance discrimination,
    arXiv 1805.01978, eq. 8 and $\tau = 0.07$; there k = 200).

    Ties never help. Items that are tied for the last of the k places share these, each with a part of a vote; classes
    that are tied share the answer. An item votes never for itself, by its id, and counts once. Items that are alone
    in their class cannot be right, and are left out.

    Args:
        embeddings: `[n, dim]`, numpy or torch.
        labels: int `[n]`, or names.
        ids: int or names `[n]`.
        ks: how many vote, each at least 1; where there are fewer others, all of them do.
        temperature: above 0; the larger, the more equal the votes.

    Returns:
        The accuracy for each of `ks`.

    Raises:
        UserError: NaN embeddings, lengths that differ, an option out of its bounds, every class has one item.
    """
    if not ks or min(ks) < 1 or not temperature > 0:
        raise UserError(f"ks {tuple(ks)}: give each as at least 1; temperature {temperature:g}: above 0")
    given, _ = sides(embeddings, labels, ids, None, None, None)
    rows = unique_rows(given)
    given = Side(given.embeddings[rows], np.unique(given.labels[rows], return_inverse=True)[1], None)
    counted = np.bincount(given.labels)[given.labels] > 1
    if not counted.any():
        raise UserError(
            f"each of the {len(rows)} items is alone in its class; evaluate on classes with at least two items"
        )
    space = knn.prepare(given.embeddings, given.embeddings, "cosine")
    own = np.arange(len(rows))
    right = {k: np.zeros(len(rows)) for k in ks}

    def work(start: int, block: Floats) -> None:
        knn.mask_own(block, own[start : start + len(block)])
        step = max(1, ROWS // len(rows))
        for first in range(0, len(block), step):
            part = block[first : first + step]
            at = slice(start + first, start + first + len(part))
            for k, answers in _right(part, ks, given.labels, given.labels[at], temperature).items():
                right[k][at] = answers

    knn.for_each_block(space.queries, space.gallery, work)
    return {k: float(right[k][counted].mean()) for k in ks}


def _right(
    block: Floats, ks: Sequence[int], labels: Ints, wanted: Ints, temperature: float
) -> dict[int, NDArray[np.float64]]:
    """Whether each row's own class has the most votes of the k nearest, 1 / t where t classes have."""
    others, names = block.shape[1] - 1, int(labels.max()) + 1
    rows, columns, values = _nearest(block, min(max(ks), others))
    starts, every = np.searchsorted(rows, np.arange(len(block))), np.arange(len(block))
    weights = np.exp((values - values[starts][rows]) / temperature)
    cells, of = np.unique(rows * names + labels[columns], return_inverse=True)
    of_row, of_class = np.divmod(cells, names)
    first, mine = np.searchsorted(of_row, every), of_class == wanted[of_row]
    right = {}
    for k in ks:
        edge = values[starts + min(k, others) - 1][rows]
        sure, tied = values > edge + TIE, np.abs(values - edge) <= TIE
        left = min(k, others) - np.bincount(rows, sure, len(block))
        share = left / np.bincount(rows, tied, len(block))
        votes = np.bincount(of, weights * np.where(sure, 1.0, np.where(tied, share[rows], 0.0)))
        most = np.maximum.reduceat(votes, first)[of_row]
        best = votes >= most * (1 - 2 * TIE / temperature)
        right[k] = np.bincount(of_row, best & mine, len(block)) / np.bincount(of_row, best, len(block))
    return right


def _nearest(block: Floats, k: int) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Row, column and value of the k largest of each row, and of what is tied with the last of them, row by row, the
    largest first."""
    near = knn.shortlist(block, k, 3 * TIE)
    dense, among = np.nonzero(block[near.dense] > -np.inf)  # whole rows that are in no list, for their ties
    rows = np.concatenate([near.rows, near.dense[dense]])
    columns = np.concatenate([near.columns, among])
    values = np.concatenate([near.values, block[near.dense[dense], among]]).astype(np.float64)
    order = np.lexsort((-values, rows))
    return rows[order], columns[order], values[order]
