"""Relations: from the labels of anchors and references to positives, or to both masks.

@relation
def NAME(labels, reference_labels, *, options) -> bool [anchors, references], or Pairs
"""

from typing import Annotated, Literal

from torch import Tensor

from pullpush.bounds import Bound
from pullpush.errors import UserError
from pullpush.maths.choice import relation
from pullpush.maths.pairs import Pairs, equal

__all__ = ["REGISTRY", "same_ancestor", "same_class", "same_text", "shared_label"]

# Of a hierarchy: no path is longer.
Level = Annotated[int, Bound(-64, 63)]
Duplicates = Literal["positive", "mask", "negative"]


@relation
def same_class(labels: Tensor, reference_labels: Tensor) -> Tensor:
    """Positive where the classes are equal. Labels [n] and [m], int64, to bool [n, m]."""
    return equal(labels, reference_labels)


@relation
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


@relation
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


@relation
def same_text(labels: Tensor, reference_labels: Tensor, *, duplicates: Duplicates = "positive") -> Pairs:
    """Images and texts: positive where they belong together; an equal text elsewhere is told apart.

    Args:
        labels, reference_labels: int64 [n, 2] and [m, 2]: what belongs together (the item or the class), and which
            text was drawn for it.
        duplicates: cells of different items with one text are `positive`, are left out (`mask`), or count as
            `negative`, though nobody could tell them from positives.

    Raises:
        UserError: labels of another shape.
    """
    if labels.ndim != 2 or labels.shape[1:] != reference_labels.shape[1:] or labels.shape[1] != 2:
        raise UserError(
            f"relation 'same_text' compares labels [n, 2], what belongs together and which text, got "
            f"{list(labels.shape)} and {list(reference_labels.shape)}"
        )
    match = labels[:, None, 0] == reference_labels[None, :, 0]
    if duplicates == "negative":
        return Pairs(match, ~match)
    either = match | (labels[:, None, 1] == reference_labels[None, :, 1])
    return Pairs(either if duplicates == "positive" else match, ~either)


REGISTRY = {each.__name__: each for each in (same_class, shared_label, same_ancestor, same_text)}
