"""Which cells of the rectangle are positive and which negative."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from torch import Tensor

from pullpush.bounds import Bound
from pullpush.errors import UserError

__all__ = ["RELATIONS", "Pairs", "Relation", "make_pairs", "same_ancestor", "same_class", "same_text", "shared_label"]

# Of a hierarchy: no path is longer.
Level = Annotated[int, Bound(-64, 63)]
Duplicates = Literal["positive", "mask", "negative"]


class Pairs(NamedTuple):
    """Two boolean masks [anchors, references]; a cell is in one of them or in none."""

    positive: Tensor
    negative: Tensor


Relation = Callable[[Tensor, Tensor], Tensor | Pairs]


def same_class(labels: Tensor, reference_labels: Tensor) -> Tensor:
    """Positive where the classes are equal. Labels [n] and [m], int64, to bool [n, m]."""
    return labels[:, None] == reference_labels[None, :]


def shared_label(labels: Tensor, reference_labels: Tensor) -> Tensor:
    """Positive where two label sets overlap. Multi-hot labels [n, classes] and [m, classes] to bool [n, m].

    References of a single class each, such as proxies, may come as class numbers, int64 [m].

    Raises:
        UserError: labels of another shape.
    """
    if labels.ndim != 2 or (reference_labels.ndim == 2 and reference_labels.shape[1] != labels.shape[1]):
        raise UserError(
            f"relation 'shared_label' compares sets of the same classes, multi-hot [n, classes], got labels "
            f"{list(labels.shape)} and {list(reference_labels.shape)}"
        )
    if reference_labels.ndim == 1:
        return labels[:, reference_labels] > 0
    return (labels.float() @ reference_labels.float().mT) > 0


def same_ancestor(labels: Tensor, reference_labels: Tensor, *, level: Level = 0) -> Tensor:
    """Positive where the paths through a hierarchy agree down to a level.

    Args:
        labels, reference_labels: int64 [n, levels] and [m, levels], coarsest first.
        level: the last that must agree, from 0, the coarsest; from the end when negative, so -1 is the same class.

    Raises:
        UserError: labels that are no paths, or not so deep.
    """
    shapes = labels.shape[1:], reference_labels.shape[1:]
    if labels.ndim != 2 or shapes[0] != shapes[1] or not -shapes[0][0] <= level < shapes[0][0]:
        raise UserError(
            f"relation 'same_ancestor' with level={level} compares paths [n, levels], coarsest first, got labels "
            f"{list(labels.shape)} and {list(reference_labels.shape)}"
        )
    depth = range(labels.shape[1])[level] + 1
    agree = labels[:, None, 0] == reference_labels[None, :, 0]
    for column in range(1, depth):
        agree = agree & (labels[:, None, column] == reference_labels[None, :, column])
    return agree


def same_text(labels: Tensor, reference_labels: Tensor, *, duplicates: Duplicates = "positive") -> Pairs:
    """Images and descriptions: positive where they belong together; an equal description elsewhere is told apart.

    Args:
        labels, reference_labels: int64 [n, 2] and [m, 2]: what belongs together (the item or the class), and which
            description was drawn for it.
        duplicates: cells of different items with one description are `positive`, are left out (`mask`), or count as
            `negative`, though nobody could tell them from positives.

    Raises:
        UserError: labels of another shape.
    """
    if labels.ndim != 2 or labels.shape[1:] != reference_labels.shape[1:] or labels.shape[1] != 2:
        raise UserError(
            f"relation 'same_text' compares labels [n, 2], what belongs together and which description, got "
            f"{list(labels.shape)} and {list(reference_labels.shape)}"
        )
    match = labels[:, None, 0] == reference_labels[None, :, 0]
    if duplicates == "negative":
        return Pairs(match, ~match)
    either = match | (labels[:, None, 1] == reference_labels[None, :, 1])
    return Pairs(either if duplicates == "positive" else match, ~either)


RELATIONS: dict[str, Relation] = {
    "same_class": same_class,
    "shared_label": shared_label,
    "same_ancestor": same_ancestor,
    "same_text": same_text,
}


def make_pairs(
    labels: Tensor,
    ids: Tensor,
    reference_labels: Tensor,
    reference_ids: Tensor,
    relation: Relation = same_class,
    valid: Tensor | None = None,
) -> Pairs:
    """The masks of a rectangle.

    A cell whose two ids are equal is an embedding beside itself and is in neither mask; nothing else decides that.

    Args:
        labels, reference_labels: int64 [n] and [m], or whatever the relation takes.
        ids, reference_ids: int64 [n] and [m].
        relation: labels to positives, all other cells being negative; or to both masks.
        valid: bool [m], False for columns that hold nothing (places of a memory not yet filled).

    Raises:
        UserError: labels that the relation does not take.
    """
    if (labels.ndim > 1 or reference_labels.ndim > 1) and relation is same_class:
        raise UserError(
            f"labels {list(labels.shape)} are no numbers of classes: give relation='shared_label' for sets "
            "(multi-hot), relation={'name': 'same_ancestor', 'level': ...} for paths through a hierarchy"
        )
    found = relation(labels, reference_labels)
    positive, negative = found if isinstance(found, Pairs) else (found, ~found)
    other = ids[:, None] != reference_ids[None, :]
    if valid is not None:
        other = other & valid[None, :]
    return Pairs(positive & other, negative & other)
