"""Pairs of items, and their cosines as whole numbers.

A cosine is rounded to the nearest multiple of 2^-19 (`STEP`), the width within which `ranks` calls two of them tied:
its place. `streaming` counts all pairs at their places, exactly; here is what there is to count, and a sample of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pullpush.evaluation.knn import Floats, Ints

__all__ = ["SIZE", "STEP", "Sides", "class_slices", "cosine", "edge", "place", "sampled"]

STEP = 2.0**-19
GRID = 1 << 19
SIZE = 2 * GRID + 1
"""Cosines are numbered from 0 (-1) to SIZE - 1 (1): their places."""

DRAWN = 32
"""Items of either side that are drawn together."""


@dataclass(frozen=True)
class Sides:
    """Two sets of unit vectors, ordered by class, or one with itself.

    Attributes:
        queries: float32 `[n, dim]`.
        gallery: `[m, dim]`; the same object where each pair of `queries` counts once.
        labels: of the queries, 0 ... C - 1.
        gallery_labels: of the gallery.
        classes: C.
        own: `[n]`, where the query itself stands in the gallery, -1 where it does not.
        groups: by name, the group of each query and of each row of the gallery, from 0.
    """

    queries: Floats
    gallery: Floats
    labels: Ints
    gallery_labels: Ints
    classes: int
    own: Ints
    groups: dict[str, tuple[Ints, Ints]]

    @property
    def one(self) -> bool:
        """Whether there is one set."""
        return self.queries is self.gallery

    def touching(self, codes: Ints, gallery_codes: Ints, count: int) -> Ints:
        """Pairs with an item of each code 0 ... count - 1, int64 `[count]`."""
        a, b = (np.bincount(each, minlength=count) for each in (codes, gallery_codes))
        here = np.flatnonzero(self.own >= 0)
        mine, other = codes[here], gallery_codes[self.own[here]]
        itself = sum(np.bincount(each, minlength=count) for each in (mine, other[mine != other]))
        cells = a * len(gallery_codes) + b * len(codes) - a * b - itself
        return np.asarray(cells // 2 if self.one else cells, np.int64)

    @property
    def count(self) -> int:
        """Of all pairs."""
        cells = len(self.queries) * len(self.gallery) - int(np.count_nonzero(self.own >= 0))
        return cells // 2 if self.one else cells


def place(scores: Any) -> Ints:
    """The number of the multiple of `STEP` that each cosine is nearest to, of two the even one."""
    number = np.multiply(scores, np.float32(GRID))  # exact, as is the next
    return np.asarray(np.clip(np.rint(number, out=number), -GRID, GRID).astype(np.int64) + GRID)


def cosine(places: Any) -> Any:
    """The cosine of each place."""
    return (np.asarray(places, np.float64) - GRID) * STEP


def edge(place: int) -> np.float32:
    """The least float32 that has this place or a higher one."""
    if not place:
        return np.float32(-1.5)
    least = np.float32((place - GRID - 0.5) * STEP)  # no rounding: it needs 21 bits
    return least if place % 2 == 0 else np.nextafter(least, np.float32(2))


def sampled(sides: Sides, count: int, seed: int) -> tuple[Ints, Ints]:
    """Places of about `count` random pairs of different classes, after a quarter as many of one class.

    Those of different classes are all between `DRAWN` queries and as many of the gallery, which takes a fraction of the
    time; those that share an item are not independent.
    """
    generator = np.random.default_rng(seed)
    first, last = class_slices(sides)
    positives = last - first - ((sides.own >= first) & (sides.own < last))
    ends = np.cumsum(positives)
    number = np.sort(generator.integers(0, ends[-1], max(count // 4, 1)))  # in order, they lie side by side in memory
    rows = np.searchsorted(ends, number, side="right")
    columns = first[rows] + number - (ends - positives)[rows]
    own = sides.own[rows]
    columns += (own >= first[rows]) & (columns >= own)
    same, different = [], []
    for at in range(0, len(rows), 1 << 14):
        here = slice(at, at + (1 << 14))
        same.append(place(np.einsum("ij,ij->i", sides.queries[rows[here]], sides.gallery[columns[here]])))
    for _ in range(0, count, DRAWN**2):
        rows = generator.integers(0, len(sides.queries), DRAWN)
        columns = generator.integers(0, len(sides.gallery), DRAWN)
        apart = sides.labels[rows][:, None] != sides.gallery_labels[columns]
        different.append(place((sides.queries[rows] @ sides.gallery[columns].T)[apart]))
    return np.concatenate(same), np.concatenate(different)


def class_slices(sides: Sides) -> tuple[Ints, Ints]:
    """Where the class of each query stands in the gallery, first and behind the last; int64 `[n]`."""
    first, last = (np.searchsorted(sides.gallery_labels, sides.labels, side=side) for side in ("left", "right"))
    return first, last
