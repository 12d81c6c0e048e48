"""Labels and ids as people have them: numbers, or names."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pullpush.errors import UserError

__all__ = ["numbered", "rows_by_label"]


def numbered(name: str, *columns: Any) -> tuple[list[Any], NDArray[Any] | None]:
    """Names as numbers: the places of the sorted names, over all columns together. Numbers stay as they are.

    Args:
        name: of the columns, for messages.
        columns: tensors, arrays, columns of tables or lists; None for one that is not there.

    Returns:
        The columns, and the names by their numbers; None where the columns hold no names.

    Raises:
        UserError: names in one column, numbers in another.
    """
    present = [column for column in columns if column is not None]
    named = [_are_names(column) for column in present]
    if not any(named):
        return list(columns), None
    if not all(named):
        raise UserError(f"{name} are names on one side and numbers on the other; give both as names or both as numbers")
    arrays = [np.asarray(column, dtype=object) for column in present]
    names, numbers = np.unique(np.concatenate([a.ravel() for a in arrays]), return_inverse=True)
    parts = iter(np.split(numbers, np.cumsum([a.size for a in arrays])[:-1]))
    return [None if column is None else next(parts).reshape(np.shape(column)) for column in columns], names


def rows_by_label(labels: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """The rows of each label, in order; the labels are sorted. One sort serves all of them."""
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True)) if len(labels) else {}


def _are_names(column: Any) -> bool:
    if isinstance(column, torch.Tensor):
        return False
    array = np.asarray(column)
    return array.dtype.kind in "UT" or (
        array.dtype.kind == "O" and array.size > 0 and all(isinstance(value, str) for value in array.flat)
    )
