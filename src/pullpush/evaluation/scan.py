"""One look at a tile of cosines: which pairs matter, counted at their places."""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pullpush.evaluation.knn import Floats, Ints
from pullpush.evaluation.pairs import GRID, SIZE, edge, place

__all__ = ["COMPILED", "Bools", "Scan", "Taken", "compiled", "scan"]

COMPILED = 1 << 29
"""Of so many pairs the compiled scan saves more than the second that loading it takes."""

Bools = NDArray[np.bool_]
Taken = tuple[Ints, Ints, int]
"""Flat places in the tile and places of cosines of some pairs, and how many pairs reach the end of the zone."""


class Scan(NamedTuple):
    """What a scan looks for, all in places.

    Attributes:
        floor: pairs from here on are counted.
        zone: so are those from the first to below the second; None: no others.
    """

    floor: int
    zone: tuple[int, int] | None

    @property
    def edges(self) -> tuple[np.float32, np.float32, np.float32]:
        """The least cosines of the floor and of both ends of the zone, infinite without one."""
        ends = (np.float32(np.inf),) * 2 if self.zone is None else tuple(map(edge, self.zone))
        return edge(self.floor), ends[0], ends[1]


def scan(tile: Floats, wanted: Scan, least: int, counts: Ints, mask: Bools) -> Taken:
    """Adds the wanted pairs of a tile to `counts`.

    Args:
        tile: cosines, float32 `[rows, columns]`, contiguous.
        wanted: which.
        least: those with this place or a higher one are returned.
        counts: int64 `[SIZE]`, by place.
        mask: bool `[2, tile.size]` at least, overwritten.
    """
    floor, low, high = wanted.edges
    taken, other = (each[: tile.size].reshape(tile.shape) for each in mask)
    np.greater_equal(tile, floor, out=taken)
    reached = 0
    if wanted.zone is not None:
        # from the low end on, but not from the high end on: what is taken is nested, so this is exact
        np.not_equal(taken, np.greater_equal(tile, low, out=other), out=taken)
        np.not_equal(taken, np.greater_equal(tile, high, out=other), out=taken)
        reached = int(np.count_nonzero(other))
    index = _where(taken)
    places = place(tile.reshape(-1).take(index))
    np.add.at(counts, places, 1)
    if least > min(wanted.floor, wanted.zone[0] if wanted.zone else SIZE):
        some = np.flatnonzero(places >= least)
        index, places = index.take(some), places.take(some)
    return index, places, reached


@cache
def compiled() -> Callable[[Floats, Scan, int, Ints, Bools], Taken]:
    """The same by numba, in one pass over the tile where NumPy takes seven; `scan` itself where it is not installed."""
    try:
        from numba import njit
    except ImportError:
        return scan
    try:
        kernel = njit(nogil=True, cache=True)(_kernel)
    except RuntimeError:  # there is no folder to keep it in
        kernel = njit(nogil=True)(_kernel)

    local = threading.local()

    def scanned(tile: Floats, wanted: Scan, least: int, counts: Ints, mask: Bools) -> Taken:
        room = getattr(local, "room", None)
        if room is None or room.shape[1] <= tile.size:
            room = local.room = np.empty((3, tile.size + 8), np.int32)
        row = mask.view(np.uint8)[0, : -(-tile.shape[1] // 8) * 8]
        row[tile.shape[1] :] = 0
        found, reached = kernel(tile, *wanted.edges, least, counts, row, *room)
        return room[0, :found].astype(np.int64), room[1, :found].astype(np.int64), reached

    return scanned


def _kernel(
    tile: Any, floor: Any, low: Any, high: Any, least: Any, counts: Any, mask: Any, index: Any, places: Any, some: Any
) -> tuple[int, int]:
    """Fills `index` and `places`, and gives how many it has filled and how many pairs reach `high`.

    `mask` and `some` are room for a row. No step branches on a number of the tile, which no processor can foresee: what
    is passed over is written too, and overwritten by the next. Eight bytes of the mask at a time say that there is
    nothing, which is the rule.
    """
    words, scale = mask.view(np.uint64), np.float32(GRID)
    found, reached = 0, 0
    for i in range(tile.shape[0]):
        row: Any = tile[i]
        if high < np.inf:
            past: Any = np.int32(0)
            for j in range(tile.shape[1]):  # in 32 bits, so that it runs on vectors
                in_zone = np.uint8(row[j] >= low) & np.uint8(row[j] < high)
                mask[j] = np.uint8(row[j] >= floor) | in_zone
                past = np.int32(past + np.int32(row[j] >= high))
            reached += past
        else:
            for j in range(tile.shape[1]):
                mask[j] = np.uint8(row[j] >= floor)
        eights, taken = 0, 0
        for word in range(len(words)):
            places[found + eights] = word
            eights += int(words[word] != 0)
        for each in range(eights):
            first = 8 * places[found + each]
            for j in range(first, first + 8):
                some[taken] = j
                taken += int(mask[j])
        for each in range(taken):
            j = some[each]
            at = int(min(max(np.rint(row[j] * scale), np.float32(-GRID)), np.float32(GRID))) + GRID
            counts[at] += 1
            index[found], places[found] = i * tile.shape[1] + j, at
            found += int(at >= least)
    return found, reached


def _where(mask: Bools) -> Ints:
    """The flat places where a mask is true. Most of eight side by side are not, and are passed over at once."""
    flat = mask.reshape(-1)
    if len(flat) % 8:
        return np.flatnonzero(flat)
    some = np.flatnonzero(flat.view(np.uint64) != 0)
    inner = np.flatnonzero(flat.view(np.uint64).take(some).view(np.bool_))
    return np.asarray(some.take(inner >> 3) * 8 + (inner & 7))
