"""The test items that several runs have in common, by which they can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.errors import UserError

__all__ = ["Common", "common_items"]


@dataclass(frozen=True)
class Common:
    """Items of several test splits that are the same.

    Attributes:
        items: as the first split has them, in its order.
        rows: for each split, the rows of these items in it.
        whole: whether the splits hold nothing else, in the same order: then what was computed of each counts as it is.
    """

    items: Items
    rows: tuple[NDArray[np.int64], ...]
    whole: bool


def common_items(splits: Sequence[Items], names: Sequence[str]) -> Common:
    """The items that all splits hold: those of the same path and box, or, of folders that lie elsewhere, of the same id
    and file name.

    Raises:
        UserError: there are none, or an item has another class or role in one of them.
    """
    for keys_of in (_by_path, _by_id):
        keys = [keys_of(each) for each in splits]
        shared = set(keys[0]).intersection(*keys[1:])
        if shared:
            break
    else:
        raise UserError(
            f"{names[0]!r} and {names[-1]!r} are tested on other items: no item is in the test split of all runs, by "
            "its path or by its id and file name. Compare runs of the same data, --seed and --data.test"
        )
    chosen = [key for key in keys[0] if key in shared]
    rows = tuple(np.array([each[key] for key in chosen]) for each in keys)
    common = [each.select(own) for each, own in zip(splits, rows, strict=True)]
    for other, name in zip(common[1:], names[1:], strict=True):
        _check_same(common[0], other, names[0], name)
    whole = all(np.array_equal(own, np.arange(len(each))) for own, each in zip(rows, splits, strict=True))
    return Common(common[0], rows, whole and all(_same_labels(one, other) for one, other in pairwise(common)))


def _by_path(items: Items) -> dict[object, int]:
    """A key an item to its row. An image may be in a table several times, each time with another box."""
    return {(items.path(row), items.box(row)): row for row in range(len(items))}


def _by_id(items: Items) -> dict[object, int]:
    ids = items.table["id"].tolist()
    return {(ids[row], Path(items.path(row)).name, items.box(row)): row for row in range(len(items))}


def _same_labels(one: Items, other: Items) -> bool:
    """Whether classes have the same numbers, which stored evaluations give."""
    return np.array_equal(one.table["label"], other.table["label"])


def _check_same(one: Items, other: Items, name: str, other_name: str) -> None:
    """Two tables of the same items say the same of them."""
    for what, (mine, theirs) in {
        "class": (_class_names(one), _class_names(other)),
        "role": (one.table["role"].to_numpy(), other.table["role"].to_numpy()),
    }.items():
        differs = np.flatnonzero(mine != theirs)
        if len(differs):
            row = int(differs[0])
            raise UserError(
                f"{name!r} and {other_name!r} are tested by other rules: the {what} of {one.path(row)!r} is "
                f"{str(mine[row])!r} in the one and {str(theirs[row])!r} in the other ({len(differs):,} such items). "
                "Compare runs of the same labels"
            )


def _class_names(items: Items) -> NDArray[np.str_]:
    return np.asarray(np.array(items.classes, dtype=str)[items.table["label"].to_numpy()], np.str_)
