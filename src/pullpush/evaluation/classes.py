"""How close queries are to the classes of a gallery: what identification, and accuracy with few images, ask."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pullpush.evaluation import knn
from pullpush.evaluation.knn import Floats, Ints
from pullpush.evaluation.ranks import TIE

__all__ = ["RULE", "Closest", "Rule", "closest_classes", "prototypes"]

Rule = Literal["max", "mean"]
RULE: Rule = "mean"
"""The default score of a class."""


class Closest(NamedTuple):
    """What each query finds among the classes, `[queries]`."""

    own: Floats
    """Score of the query's own class; -inf where that is not enrolled."""
    other: Floats
    """The best score of any other class; -inf where there is none."""
    right: NDArray[np.float64]
    """Whether the own class is the closest: 1 or 0, and 1 / t where t classes are tied for it."""

    @property
    def best(self) -> Floats:
        """The score of the closest class."""
        return np.maximum(self.own, self.other)


def closest_classes(
    queries: Floats, labels: Ints, gallery: Floats, gallery_labels: Ints, own: Ints | None = None, rule: Rule = RULE
) -> Closest:
    r"""The scores by which a query is given a class.

    With $x$ the query and $y_1 \dots y_m$ the enrolled images of a class, all of length 1, the score of the class is
    $\max_i \langle x, y_i \rangle$ (`max`, its nearest image) or
    $\langle x, \bar y / |\bar y| \rangle$ with $\bar y = \sum_i y_i$ (`mean`, its prototype: Snell, Swersky, Zemel
    2017, arXiv 1703.05175, here on the sphere). With one image a class both are the same.

    Args:
        queries: `[n, dim]`.
        labels: `[n]`.
        gallery: `[m, dim]`, the enrolled images.
        gallery_labels: `[m]`.
        own: `[n]`, the row of the gallery that is the query itself, which is then not enrolled for it; -1 for none.
        rule: `max` or `mean`.
    """
    order = np.argsort(gallery_labels, kind="stable")
    classes, starts = np.unique(gallery_labels[order], return_index=True)
    column = knn.positions(labels, classes)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    own = np.full(len(labels), -1) if own is None else np.where(own >= 0, place[own], -1)
    space = knn.prepare(queries, gallery, "cosine")
    vectors = space.gallery[order]
    sums = np.add.reduceat(vectors.astype(np.float64), starts)
    sizes = np.diff(np.append(starts, len(vectors)))
    references = vectors if rule == "max" else _unit(sums)
    score, other, right = np.empty(len(labels), np.float32), np.empty(len(labels), np.float32), np.empty(len(labels))

    def work(start: int, block: Floats) -> None:
        at = slice(start, start + len(block))
        rows, columns = np.arange(len(block)), column[at]
        if rule == "max":
            knn.mask_own(block, own[at])
            if len(starts) < len(vectors):
                block = np.maximum.reduceat(block, starts, axis=1)
        else:
            for row in np.flatnonzero(own[at] >= 0):  # the prototype without the query
                of = column[start + row]
                rest = _unit((sums[of] - vectors[own[start + row]])[None])[0]
                block[row, of] = rest @ space.queries[start + row] if sizes[of] > 1 else -np.inf
        there = np.flatnonzero(columns >= 0)
        mine = np.full(len(block), -np.inf, np.float32)
        mine[there] = block[rows[there], columns[there]]
        block[rows[there], columns[there]] = -np.inf
        best = block.max(axis=1)
        tied = np.count_nonzero(block >= (mine - TIE)[:, None], axis=1)
        ahead = best > mine + TIE
        score[at], other[at] = mine, best
        right[at] = np.where((mine > -np.inf) & ~ahead, 1 / (1 + tied), 0.0)

    knn.for_each_block(space.queries, references, work)
    return Closest(score, other, right)


def prototypes(vectors: Floats, labels: Ints) -> tuple[Ints, Floats]:
    """The classes, ascending, and the prototype of each: float32 `[classes, dim]`, of length 1.

    Args:
        vectors: `[n, dim]`, of length 1.
        labels: `[n]`.
    """
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    return classes, _unit(np.add.reduceat(vectors[order].astype(np.float64), starts))


def _unit(sums: NDArray[np.float64]) -> Floats:
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(length > 0, length, 1), np.float32)
