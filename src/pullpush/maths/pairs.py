"""Which cells of the rectangle are positive and which negative."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from pullpush.errors import UserError
from pullpush.maths.reduce import eager

__all__ = ["Pairs", "Relation", "equal", "make_pairs"]


class Pairs(NamedTuple):
    """Two boolean masks [anchors, references]; a cell is in one of them or in none."""

    positive: Tensor
    negative: Tensor


Relation = Callable[[Tensor, Tensor], Tensor | Pairs]


def equal(labels: Tensor, reference_labels: Tensor) -> Tensor:
    """Labels [n] and [m], int64, to bool [n, m].

    Raises:
        UserError: labels that are no numbers of classes.
    """
    if labels.ndim > 1 or reference_labels.ndim > 1:
        raise UserError(
            f"labels {list(labels.shape)} are no numbers of classes: give relation='shared_label' for sets "
            "(multi-hot), relation={'name': 'same_ancestor', 'level': ...} for paths through a hierarchy"
        )
    return labels[:, None] == reference_labels[None, :]


def make_pairs(
    labels: Tensor,
    ids: Tensor,
    reference_labels: Tensor,
    reference_ids: Tensor,
    relation: Relation | None = None,
    valid: Tensor | None = None,
) -> Pairs:
    """The masks of a rectangle.

    A cell whose two ids are equal is an embedding beside itself and is in neither mask; nothing else decides that.

    Args:
        labels, reference_labels: int64 [n] and [m], or whatever the relation takes.
        ids, reference_ids: int64 [n] and [m].
        relation: labels to positives, all other cells being negative; or to both masks. By default `equal`.
        valid: bool [m], False for columns that hold nothing (places of a memory not yet filled).

    Raises:
        UserError: labels that the relation does not take.
    """
    related = (relation or equal)(labels, reference_labels)
    positive, negative = related if isinstance(related, Pairs) else (related, ~related)
    if ids is reference_ids and valid is None and eager(ids) and len(ids.unique()) == len(ids):
        return Pairs(positive.clone().fill_diagonal_(False), negative.clone().fill_diagonal_(False))
    if _apart(ids, reference_ids):
        other = None if valid is None else valid[None, :]
    else:
        other = ids[:, None] != reference_ids[None, :]
        other = other if valid is None else other & valid[None, :]
    return Pairs(positive, negative) if other is None else Pairs(positive & other, negative & other)


def _apart(ids: Tensor, reference_ids: Tensor) -> bool:
    """Whether a look at the ranges tells that no id is in both, as with proxies or items that come without ids; to
    compare each with each would take as long as a loss."""
    if not eager(ids) or not len(ids) or not len(reference_ids):
        return False
    (low, high), (reference_low, reference_high) = ids.aminmax(), reference_ids.aminmax()
    return bool((high < reference_low) | (reference_high < low))
