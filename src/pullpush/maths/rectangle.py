"""What a loss and a miner are handed, what a loss returns, and how it becomes a number."""

from typing import NamedTuple

import torch
from torch import Tensor

from pullpush.maths.pairs import Pairs
from pullpush.maths.reduce import eager

__all__ = ["AnchorLoss", "Rectangle", "per_anchor", "value"]


class Rectangle(NamedTuple):
    """Anchors in rows, references in columns.

    Attributes:
        similarity: [anchors, references]; larger means closer.
        pairs: two masks of the same shape.
        reference_similarity: the references among each other, [references, references], or those of each class,
            [classes, centers, centers]; None unless the loss or the miner says that it wants it.
        similarity_name: as in `SIMILARITIES`; empty for one of your own.
        dim: of the embeddings; 0 where it is not known.
    """

    similarity: Tensor
    pairs: Pairs
    reference_similarity: Tensor | None = None
    similarity_name: str = ""
    dim: int = 0

    def among(self) -> Tensor:
        """`reference_similarity`, which is there."""
        assert self.reference_similarity is not None
        return self.reference_similarity


class AnchorLoss(NamedTuple):
    r"""Per anchor, the sum and the weight it stands for.

    Both [anchors], or [anchors, terms] where a paper averages terms apart. Rows computed in blocks, or on several
    ranks, are added up exactly, since the value is $\sum_t \sum_a total_{at} / \sum_a count_{at}$.
    """

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # tuple.count is of no use here


def value(loss: AnchorLoss) -> Tensor:
    """The number to minimise; 0, with a graph, where nothing counts."""
    total, count = loss.total.sum(0), loss.count.sum(0)
    if not total.ndim and eager(total):
        return total / count if count > 0 else total * 0.0
    return torch.where(count > 0, total / torch.where(count > 0, count, 1.0), total * 0.0).sum()


def per_anchor(loss: AnchorLoss) -> Tensor:
    """The value of each anchor [anchors]; 0 where it counts for nothing."""
    total, count = loss.total, loss.count
    each = torch.where(count > 0, total / torch.where(count > 0, count, 1.0), total * 0.0)
    return each if each.ndim == 1 else each.sum(1)
