"""Every pair of items, counted by its cosine: in tiles, exactly, without keeping a pair.

All that verification asks is in two counts, of pairs of one class and of pairs of different classes, over a grid of a
million cosines (`pairs`). To add each pair to such a count costs more than its product, so of many pairs only some are
added one by one: those from `floor` on, and those of one narrow `zone`. Of the others it is counted exactly how many
reach each of a few levels, which is a comparison of a tile with a number. Which levels is told beforehand by a sample
of pairs.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.evaluation import knn
from pullpush.evaluation.knn import Floats, Ints
from pullpush.evaluation.pairs import SIZE, Sides, class_slices, edge, place
from pullpush.evaluation.scan import COMPILED, Bools, Scan, compiled, scan
from pullpush.progress import counted

__all__ = ["COLUMNS", "ROWS", "Counts", "Plan", "stream", "tiles"]

ROWS, COLUMNS = 248, 2040
"""A tile: about what stays in the cache of a core. Sums along a column, and along each eighth of a row, fit into a byte
(`_sums`)."""

FLUSH = 1 << 20
"""Pairs that are taken out before they are added to the counts."""

APART = np.float32(-2)
"""In the place of a pair that does not count: below every cosine."""

Cells = tuple[Ints, Ints, Ints]
"""Rows of the queries, rows of the gallery, places."""


@dataclass(frozen=True)
class Plan:
    """What is counted how, all in places.

    Attributes:
        floor: pairs from here on are added one by one; 0: all are.
        zone: so are those from the first to below the second, which is at most the floor.
        levels: ascending; of each class it is counted how many of its pairs reach them; below the floor, in every
            `every`-th tile. The ends of the zone are among them, and none is between.
        every: 1: in all of them.
        exact: pairs from here on are counted for their classes, one by one; those below only in every `every`-th tile.
    """

    floor: int
    zone: tuple[int, int] | None
    levels: Ints
    every: int = 1
    exact: int = 0

    @property
    def bulk(self) -> Ints:
        """The levels below the floor."""
        return self.levels[self.levels < self.floor]


@dataclass(frozen=True)
class Counts:
    """What `stream` counted.

    Attributes:
        same: int64 `[SIZE + 1]`, pairs of one class at this place and all higher ones.
        above: int64 `[SIZE + 1]`, so of pairs of different classes; -1: not counted, below the floor and outside of
            the zone.
        levels: as of the plan.
        floor: as of the plan.
        class_same: int64 `[C, 1 + levels]`, pairs of each class: all, and those that reach each level.
        class_different: float64, so, its pairs with other classes; below `exact` of the plan estimated from some tiles.
        groups: by name, int64 `[groups, 1 + levels]` each: pairs of one class with an item of the group, and of
            different ones, which are not counted at levels below the floor.
    """

    same: Ints
    above: Ints
    levels: Ints
    floor: int
    class_same: Ints
    class_different: NDArray[np.float64]
    groups: dict[str, tuple[Ints, Ints]]


def tiles(sides: Sides, start: int) -> Iterator[slice]:
    """The columns of the gallery of each tile of the block of queries from `start`."""
    for column in range(start if sides.one else 0, len(sides.gallery), COLUMNS):
        yield slice(column, min(column + COLUMNS, len(sides.gallery)))


def stream(sides: Sides, plan: Plan) -> Counts:
    """Counts all pairs, in as many threads as torch uses."""
    work = _Stream(sides, plan)
    starts = range(0, len(sides.queries), ROWS)
    # threads make their own tiles, so none waits for another
    with knn.one_thread_a_product(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in counted(pool.map(work.block, starts), "comparing", len(sides.queries), "items", int):
            pass
    return work.counts()


class _Buffers(NamedTuple):
    """Of a thread: what it overwrites with each tile, and the pairs that it has counted at each place."""

    tile: Floats
    mask: Bools
    all: Ints


class _Stream:
    """The counts so far. Threads add to them under the lock."""

    def __init__(self, sides: Sides, plan: Plan) -> None:
        self.sides, self.plan, self.lock = sides, plan, threading.Lock()
        self.first, self.last = class_slices(sides)
        self.bulk = [edge(int(level)) for level in plan.bulk]
        self.wanted, self.scan = Scan(plan.floor, plan.zone), compiled() if sides.count >= COMPILED else scan
        self.width = len(plan.levels) + 1
        # how many of the levels a place reaches
        self.reaches = np.searchsorted(plan.levels, np.arange(SIZE), side="right").astype(np.int16)
        self.same = np.zeros(SIZE, np.int64)
        self.reached = 0
        self.rows = np.zeros((len(plan.bulk), len(sides.queries)), np.int64)
        self.columns = np.zeros((len(plan.bulk), len(sides.gallery)), np.int64)
        self.classes = [np.zeros(sides.classes * self.width, np.int64) for _ in range(2)]
        sizes = {name: int(max(a.max(), b.max())) + 1 for name, (a, b) in sides.groups.items()}
        self.groups = {name: [np.zeros(n * self.width, np.int64) for _ in range(2)] for name, n in sizes.items()}
        self.local, self.buffers = threading.local(), list[_Buffers]()

    def block(self, start: int) -> int:
        """All tiles of a block of queries."""
        buffers = self._of_thread()
        queries = self.sides.queries[start : start + ROWS]
        reached = 0
        same: list[Cells] = []
        cells: list[Cells] = []
        for at in tiles(self.sides, start):
            columns = self.sides.gallery[at]
            tile = buffers.tile[: len(queries) * len(columns)].reshape(len(queries), len(columns))
            np.matmul(queries, columns.T, out=tile)
            self._take_apart(tile, start, at.start)
            if self._has_same(start, at):
                same.append(self._of_one_class(tile, start, at.start))
            found, past = self._look(tile, start, at.start, buffers)
            cells.append(found)
            reached += past
            if sum(len(places) for _, _, places in cells) > FLUSH:
                self._add(0, cells)
        self._add(0, cells)
        self._add(1, same)
        with self.lock:
            self.reached += reached
        return len(queries)

    def _of_thread(self) -> _Buffers:
        if not hasattr(self.local, "buffers"):
            mask = np.empty((2, ROWS * COLUMNS), np.bool_)
            self.local.buffers = _Buffers(np.empty(ROWS * COLUMNS, np.float32), mask, np.zeros(SIZE, np.int64))
            with self.lock:
                self.buffers.append(self.local.buffers)
        buffers: _Buffers = self.local.buffers
        return buffers

    def _has_same(self, start: int, at: slice) -> bool:
        """Whether any pair of a tile is of one class; both sides are in the order of their classes."""
        last = min(start + ROWS, len(self.last)) - 1
        return bool(self.first[start] < at.stop and self.last[last] > at.start)

    def _take_apart(self, tile: Floats, start: int, first: int) -> None:
        """Marks the pairs that do not count: an item with itself and, of one set, each pair a second time."""
        rows, columns = tile.shape
        if self.sides.one:
            if first < start + rows:
                tile[np.tri(rows, columns, start - first, dtype=np.bool_)] = APART
            return
        own = self.sides.own[start : start + rows]
        here = np.flatnonzero((own >= first) & (own < first + columns))
        tile[here, own[here] - first] = APART

    def _of_one_class(self, tile: Floats, start: int, first: int) -> Cells:
        """The pairs of one class, which stand side by side."""
        at = slice(start, start + len(tile))
        rows, columns = knn.cells(*(np.clip(each[at] - first, 0, tile.shape[1]) for each in (self.first, self.last)))
        values = tile[rows, columns]
        counts = values > APART
        return rows[counts] + start, columns[counts] + first, place(values[counts])

    def _look(self, tile: Floats, start: int, first: int, buffers: _Buffers) -> tuple[Cells, int]:
        """Counts which pairs of a tile reach the levels below the floor, and all of the zone and from the floor on by
        their places; gives those that are to be counted for their classes, and how many reach the end of the zone."""
        by_class = (start // ROWS + first // COLUMNS) % self.plan.every == 0
        for number, least in enumerate(self.bulk if by_class else ()):
            mask = buffers.mask[0, : tile.size].reshape(tile.shape)
            of_rows, of_columns = _sums(np.greater_equal(tile, least, out=mask))
            self.rows[number, start : start + len(tile)] += of_rows  # of this thread alone
            with self.lock:
                self.columns[number, first : first + tile.shape[1]] += of_columns
        # pairs of the zone are counted for their classes at its ends, as all others below the floor are at the levels
        lowest = self.plan.floor if by_class else max(self.plan.floor, self.plan.exact)
        index, places, reached = self.scan(tile, self.wanted, lowest, buffers.all, buffers.mask)
        rows = index // tile.shape[1]
        return (rows + start, index - rows * tile.shape[1] + first, places), reached

    def _add(self, kind: int, cells: list[Cells]) -> None:
        """Adds pairs to the counts of classes and groups: of different ones (kind 0), sorted out of all, or of one (1),
        which are counted at their places, too. Leaves none."""
        if not cells:
            return
        rows, columns, places = (np.concatenate(each) for each in zip(*cells, strict=True))
        cells.clear()
        if kind:
            with self.lock:
                np.add.at(self.same, places, 1)
        else:
            apart = np.flatnonzero(self.sides.labels[rows] != self.sides.gallery_labels[columns])
            rows, columns, places = rows[apart], columns[apart], places[apart]
        self._tally(kind, rows, columns, places)

    def _tally(self, kind: int, rows: Ints, columns: Ints, places: Ints) -> None:
        """Counts pairs for their classes and groups: of different ones (kind 0), or of one (1)."""
        reaches = self.reaches[places].astype(np.int64)
        sampled = not kind and self.plan.every > 1
        weight = np.where(places < self.plan.exact, self.plan.every if sampled else 1, 1)
        mine, other = self.sides.labels[rows], self.sides.gallery_labels[columns]
        with self.lock:
            np.add.at(self.classes[kind], mine * self.width + reaches, weight)
            if not kind:  # a pair of one class is of that class once; others are of two
                np.add.at(self.classes[kind], other * self.width + reaches, weight)
            for name, (a, b) in self.sides.groups.items():
                mine, other = a[rows], b[columns]
                np.add.at(self.groups[name][kind], mine * self.width + reaches, weight)
                some = np.flatnonzero(mine != other)
                np.add.at(self.groups[name][kind], other[some] * self.width + reaches[some], weight[some])

    def counts(self) -> Counts:
        """What was counted, once all blocks are done."""
        sides, plan = self.sides, self.plan
        tallied, same = (_reaching(each, self.width) for each in self.classes)
        above, different = self._above(), tallied.astype(np.float64)
        for number, level in enumerate(plan.levels, 1):
            if level < plan.floor:
                of_rows = np.bincount(sides.labels, self.rows[number - 1], minlength=sides.classes)
                of_columns = np.bincount(sides.gallery_labels, self.columns[number - 1], minlength=sides.classes)
                # a pair of one class was counted for its class twice
                different[:, number] = (of_rows + of_columns) * plan.every - 2 * same[:, number]
            elif level < plan.exact:
                different[:, number] *= 2 * above[level] / max(different[:, number].sum(), 1)
        different[:, 0] = sides.touching(sides.labels, sides.gallery_labels, sides.classes) - same[:, 0]
        groups = {}
        for name, (a, b) in sides.groups.items():
            apart, alike = (_reaching(each, self.width) for each in self.groups[name])
            apart[:, 0] = sides.touching(a, b, len(apart)) - alike[:, 0]
            groups[name] = (alike, apart)
        return Counts(_from_above(self.same), above, plan.levels, plan.floor, same, different, groups)

    def _above(self) -> Ints:
        """Pairs of different classes from each place on, where that was counted."""
        plan, same = self.plan, _from_above(self.same)
        above = np.full(SIZE + 1, -1)
        above[0] = self.sides.count - same[0]
        apart = sum(each.all for each in self.buffers) - self.same
        above[plan.floor :] = _from_above(apart[plan.floor :])
        if plan.zone:
            low, high = plan.zone
            above[low : high + 1] = _from_above(apart[low:high]) + self.reached - same[high]
        return above


def _from_above(counts: Ints) -> Ints:
    """Sums of each and all that follow, and 0 at the end."""
    return np.concatenate([counts[::-1].cumsum()[::-1], [0]])


def _reaching(tally: Ints, width: int) -> Ints:
    """Of each row, how many reach at least 0, 1, ... levels, from how many reach exactly so many."""
    return np.ascontiguousarray(tally.reshape(-1, width)[:, ::-1].cumsum(axis=1)[:, ::-1])


def _sums(mask: Bools) -> tuple[Ints, Ints]:
    """How many are true in each row and each column, of at most 255 rows and 2040 columns. Bytes are summed, eight of a
    row at once, for that is many times as fast as to count."""
    rows, columns = mask.shape
    of_columns = np.add.reduce(mask.view(np.uint8), axis=0, dtype=np.uint8).astype(np.int64)
    if columns % 8:
        return np.count_nonzero(mask, axis=1), of_columns
    eight = np.add.reduce(mask.view(np.uint64), axis=1, dtype=np.uint64)
    return eight.view(np.uint8).reshape(rows, 8).sum(axis=1, dtype=np.int64), of_columns
