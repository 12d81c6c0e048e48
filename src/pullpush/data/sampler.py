"""Batches of row numbers: classes x samples, or plainly shuffled.

Both samplers compute batch b of pass p from the seed alone, so a position is one number, and resuming is exact.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.bounds import Bound, Count, Seed, Whole, checked
from pullpush.data.labels import numbered, rows_by_label
from pullpush.errors import UserError

__all__ = ["BatchSampler", "ClassBalancedSampler", "ShuffledSampler", "seen_per_class"]

# Items are repeated where a class has fewer.
Samples = Annotated[int, Bound(1, 4096)]
Rows = NDArray[np.int64]
Labels = torch.Tensor | NDArray[Any] | Sequence[int] | Sequence[str]


class BatchSampler:
    """What both samplers share: the position, the rank's part, the state. Usable as `batch_sampler` of a DataLoader.

    `position` counts the batches handed out. A DataLoader with workers fetches ahead, so a loop that saves its state
    tells how many batches it has consumed: `sampler.seek(consumed)`.
    """

    def __init__(
        self, batch: int, seed: int, rank: int, world: int, passes: int | None, rows: int, keys: Sequence[Any] | None
    ) -> None:
        if not 0 <= rank < world:
            raise UserError(f"rank={rank} must be from 0 to world - 1 = {world - 1}")
        if keys is not None and len(keys) != rows:
            raise UserError(f"there are {len(keys)} keys for {rows} rows: give each row one")
        self.batch, self.seed, self.rank, self.world, self.passes = batch, seed, rank, world, passes
        self.position = 0
        self.notes: list[str] = []
        self._rows = rows
        self._plan: tuple[int, int, list[Rows]] = (-1, 0, [])  # pass, its first batch, its batches

    def plan(self, number: int) -> list[Rows]:
        """What the global batches of a pass are made of (classes, or rows)."""
        raise NotImplementedError

    def rows(self, number: int, part: Rows) -> Rows:
        """The rows of one global batch of pass `number`."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Batches in the pass at the present position."""
        return len(self._at(self.position)[2])

    def __iter__(self) -> Iterator[list[int]]:
        """Batches from the present position to the end of the last of `passes`, or for ever if that is None."""
        left = self.passes
        while left is None or left > 0:
            number, start, parts = self._at(self.position)
            for part in parts[self.position - start :]:
                self.position += 1
                rows = self.rows(number, part)
                share = len(rows) // self.world
                yield rows[self.rank * share : (self.rank + 1) * share].tolist()
            left = None if left is None else left - 1

    def __repr__(self) -> str:
        rank = f", rank={self.rank} of {self.world}" if self.world > 1 else ""
        return f"{type(self).__name__}({self.contents()}, seed={self.seed}, position={self.position}{rank})"

    def contents(self) -> str:
        """What a batch is, of how much, for people."""
        return f"batches of {self.batch} of {self._rows} items"

    def seek(self, batches: int) -> None:
        """Goes to where `batches` batches have been consumed."""
        if batches < 0:
            raise UserError(f"batches={batches} must be 0 or more")
        self.position = int(batches)

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.position, "seed": self.seed, "batch": self.batch, "rows": self._rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where the state was taken; refuses the state of other data or another seed."""
        for key, mine in (("seed", self.seed), ("batch", self.batch), ("rows", self._rows)):
            if state[key] != mine:
                raise UserError(f"the sampler's state was saved with {key}={state[key]}, this sampler has {key}={mine}")
        self.seek(state["batches"])

    def _at(self, position: int) -> tuple[int, int, list[Rows]]:
        number, start, parts = self._plan
        if number < 0 or position < start:
            number, start, parts = 0, 0, self.plan(0)
        while position >= start + len(parts):
            number, start = number + 1, start + len(parts)
            parts = self.plan(number)
        self._plan = (number, start, parts)
        return self._plan


class ClassBalancedSampler(BatchSampler):
    """Batches of P classes with K items each.

    Every class comes once a pass; where P does not divide the number of classes, the last batch is filled up with
    classes of the same pass, drawn again. From visit to visit a class goes through all its items before one comes again
    (as far as K divides them).

    Args:
        labels: Class of each row, [n]: its number or its name.
        classes: P, classes a batch (over all ranks).
        samples: K, items a class.
        seed: Everything drawn depends on it; no global random state is touched.
        rank, world: This rank gets P / world classes of each global batch.
        short: Classes with fewer than K items: `repeat` their items, or `drop` the classes. Counted in `notes`.
        keys: A key a row (such as its text), or a frozenset of some: two classes that share a key are never in
            one batch.
        passes: Passes an iteration lasts; None: for ever.

    Raises:
        UserError: P larger than the number of classes, P not divisible by world, options out of range.
    """

    @checked
    def __init__(
        self,
        labels: Labels,
        classes: Count,
        samples: Samples,
        *,
        seed: Seed = 0,
        rank: Whole = 0,
        world: Count = 1,
        short: Literal["repeat", "drop"] = "repeat",
        keys: Sequence[Any] | None = None,
        passes: Count | None = 1,
    ) -> None:
        labels = _classes(labels)[0]
        super().__init__(classes * samples, seed, rank, world, passes, len(labels), keys)
        if classes % world:
            cure = f"--batch.classes must be a multiple of {world}"
            raise UserError(f"{classes} classes a batch cannot be shared among {world} ranks: {cure}")
        self.classes, self.samples = classes, samples
        members = rows_by_label(labels)
        few = {name: len(rows) for name, rows in members.items() if len(rows) < samples}
        if few:
            how = "their items are repeated" if short == "repeat" else "left out"
            smaller = f"have fewer than {samples} items ({sum(few.values())} items)"
            self.notes.append(f"{len(few)} of {len(members)} classes {smaller}: {how}")
        if short == "drop":
            members = {name: rows for name, rows in members.items() if name not in few}
        if classes > len(members):
            there = f"there are {len(members)}{f' with {samples} items or more' if short == 'drop' else ''}"
            raise UserError(f"a batch of {classes} classes needs {classes} classes, {there}; lower --batch.classes")
        self._names = np.array(list(members), dtype=np.int64)  # sorted
        self._members = members
        self._keys: dict[int, set[Any]] | None = None
        if keys is not None:
            sets = [key if isinstance(key, frozenset) else {key} for key in keys]
            self._keys = {name: set[Any]().union(*(sets[row] for row in rows)) for name, rows in members.items()}

    @classmethod
    def for_data(
        cls,
        labels: torch.Tensor,
        usual: tuple[int, int],
        *,
        classes: int = 0,
        samples: int = 0,
        short: Literal["repeat", "drop"] = "repeat",
        world: int = 1,
        **options: Any,
    ) -> Self:
        """A sampler that goes on for ever; classes and samples that are 0 are the usual ones, or as many as there are.

        Args:
            labels: class of each row, int64 [n].
            usual: classes and samples of a batch.
            options: as of the class, and so are the others.

        Raises:
            UserError: as of the class, such as a batch that was asked for and that the data do not give.
        """
        sizes = torch.unique(labels, return_counts=True)[1]
        largest = int(sizes.max())
        asked, fewest = classes, samples or min(usual[1], max(largest, 2))
        there = int((sizes >= fewest).sum()) if short == "drop" else len(sizes)
        of = f" of {fewest} images or more" if short == "drop" else ""
        if asked > there:
            raise UserError(
                f"--batch.classes {asked} needs as many training classes, there are {there}{of}: lower it, "
                "or leave it out, then the batch follows the data"
            )
        classes = asked or max(min(usual[0], there) // world * world, 1)
        sampler = cls(labels, classes, fewest, short=short, world=world, passes=None, **options)
        if (not asked and classes < usual[0]) or (not samples and fewest < usual[1]):
            note = (
                f"batches of {classes} classes x {fewest} images follow the training data ({there} classes{of}, the "
                f"largest of {largest} images); with more data they are {usual[0]} x {usual[1]}"
            )
            sampler.notes.insert(0, note)
        return sampler

    def plan(self, number: int) -> list[Rows]:
        draw = np.random.default_rng([self.seed, number])
        order = draw.permutation(self._names)
        if self._keys is not None:
            return _apart(order, self.classes, self._keys)
        tail = -len(order) % self.classes
        order = np.concatenate([order, draw.permutation(order[: len(order) - self.classes + tail])[:tail]])
        return list(order.reshape(-1, self.classes))

    def rows(self, number: int, part: Rows) -> Rows:
        return np.concatenate([self._visit(int(name), number) for name in part])

    def contents(self) -> str:
        items = sum(len(rows) for rows in self._members.values())
        return f"{self.classes} classes x {self.samples} samples of {len(self._members)} classes, {items} items"

    def _visit(self, name: int, number: int) -> Rows:
        members = self._members[name]
        windows = max(1, len(members) // self.samples)
        place = int(np.searchsorted(self._names, name))
        draw = np.random.default_rng([self.seed, place, number // windows, 1])
        start = number % windows * self.samples
        return np.resize(draw.permutation(members), max(len(members), self.samples))[start : start + self.samples]


class ShuffledSampler(BatchSampler):
    """Batches of shuffled rows; each row once a pass, the rest that fills no batch is left for the next pass's shuffle.

    Args:
        rows: Number of rows, n.
        batch: Rows a batch (over all ranks).
        seed, rank, world, passes: as in `ClassBalancedSampler`.
        keys: A key a row: two rows with the same key are never in one batch.

    Raises:
        UserError: a batch larger than n, or not divisible by world.
    """

    @checked
    def __init__(
        self,
        rows: Whole,
        batch: Count,
        *,
        seed: Seed = 0,
        rank: Whole = 0,
        world: Count = 1,
        keys: Sequence[Any] | None = None,
        passes: Count | None = 1,
    ) -> None:
        super().__init__(batch, seed, rank, world, passes, rows, keys)
        if batch > rows:
            raise UserError(f"a batch of {batch} needs as many items, there are {rows}; lower batch")
        if batch % world:
            raise UserError(f"a batch of {batch} cannot be shared among {world} ranks; take a multiple of {world}")
        self._keys = None if keys is None else {row: {keys[row]} for row in range(rows)}

    def plan(self, number: int) -> list[Rows]:
        order = np.random.default_rng([self.seed, number]).permutation(self._rows)
        if self._keys is not None:
            return _apart(order, self.batch, self._keys, fill=False)
        return list(order[: len(order) // self.batch * self.batch].reshape(-1, self.batch))

    def rows(self, number: int, part: Rows) -> Rows:
        return part


def _apart(order: Rows, size: int, keys: dict[int, set[Any]], fill: bool = True) -> list[Rows]:
    """Batches of `size` of the members of `order`, in this order as far as no key comes twice in a batch.

    What does not fit waits for the next batch. `fill`: the last batches are filled up with members that came before.
    """
    waiting, batches = deque(order.tolist()), list[Rows]()
    while waiting:
        batch: list[int] = []
        later = _fill(batch, waiting, size, keys)
        if len(batch) < size and fill:
            _fill(batch, deque(order.tolist()), size, keys)
        if len(batch) < size:
            if fill or not batches:
                raise UserError(
                    f"no batch of {size} can be made without a key coming twice: lower the batch or drop the keys"
                )
            break
        batches.append(np.array(batch))
        waiting.extendleft(reversed(later))
    return batches


def _fill(batch: list[int], pool: deque[int], size: int, keys: dict[int, set[Any]]) -> list[int]:
    """Fills `batch` up from the left of `pool` without a key coming twice; those that it passed over."""
    used = set().union(*(keys[member] for member in batch))
    later = list[int]()
    while pool and len(batch) < size:
        member = pool.popleft()
        if keys[member] & used or member in batch:
            later.append(member)
        else:
            batch.append(member)
            used |= keys[member]
    return later


def _classes(labels: Labels) -> tuple[Rows, NDArray[Any] | None]:
    """int64 labels, and the names that they stand for, if any."""
    (numbers,), names = numbered("labels", labels)
    array = numbers.cpu().numpy() if isinstance(numbers, torch.Tensor) else np.asarray(numbers)
    if array.size and (array.dtype.kind not in "iub" or array.ndim != 1):
        raise UserError(f"labels are {array.dtype} {list(array.shape)}: give one integer or one name for each row")
    return array.astype(np.int64), names


def seen_per_class(sampler: BatchSampler, labels: Labels, batches: int) -> tuple[NDArray[Any], Rows, Rows]:
    """How often the first `batches` global batches show each class: (labels, their items, times shown), most items
    first.

    The sampler's position stays as it is.
    """
    numbers, names_of = _classes(labels)
    names, index, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    names = names if names_of is None else names_of[names]
    shown = np.zeros(len(names), dtype=np.int64)
    for position in range(batches):
        number, start, parts = sampler._at(position)
        np.add.at(shown, index[sampler.rows(number, parts[position - start])], 1)
    order = np.argsort(-sizes, kind="stable")
    return names[order], sizes[order], shown[order]
