"""From anchors and columns to the loss: similarity, pairs, miner, loss. No state."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pullpush.criterion.columns import Columns
from pullpush.maths.losses import AnchorLoss
from pullpush.maths.pairs import Pairs, make_pairs

__all__ = ["Rectangle"]


class Rectangle:
    """Computes some rows.

    Columns come in parts (the batch, the memory), so that a large part is never copied to stand beside a small one:
    the similarities are joined instead.
    """

    def __init__(
        self,
        similarity: Callable[[Tensor, Tensor], Tensor],
        relation: Callable[[Tensor, Tensor], Tensor],
        miner: Callable[..., Pairs] | None,
        loss: Callable[..., AnchorLoss],
        options: Mapping[str, Any],
    ) -> None:
        self.similarity, self.relation, self.miner, self.loss, self.options = similarity, relation, miner, loss, options
        self.wants_references = "reference_similarity" in inspect.signature(loss).parameters

    def __call__(self, anchors: Columns, parts: Sequence[Columns], learned: Mapping[str, Tensor]) -> AnchorLoss:
        """The loss of these anchors.

        Args:
            anchors: the rows.
            parts: the columns, in parts.
            learned: options that are tensors.
        """
        similarity, pairs = self.cells(anchors, parts)
        extra: dict[str, Any] = {}
        if self.wants_references:
            if len(parts) == 1 and parts[0].embeddings is anchors.embeddings:
                beside = similarity, pairs
            else:
                whole = parts[0] if len(parts) == 1 else _joined(parts)
                beside = self.cells(whole, [whole])
            extra["reference_similarity"], extra["reference_pairs"] = beside
        if self.miner is not None:
            pairs = self.miner(similarity, pairs)
        return self.loss(similarity, pairs, **{**self.options, **learned, **extra})

    def cells(self, anchors: Columns, parts: Sequence[Columns]) -> tuple[Tensor, Pairs]:
        """Similarities and masks."""
        found = [self.similarity(anchors.embeddings, part.embeddings) for part in parts]
        similarity = found[0] if len(found) == 1 else torch.cat(found, 1)
        labels, ids, valid = _beside(parts)
        return similarity, make_pairs(anchors.labels, anchors.ids, labels, ids, self.relation, valid)

    def sums(self, anchors: Columns, parts: Sequence[Columns], learned: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Sums over the anchors of total and count, a number a term. This is what is compiled."""
        loss = self(anchors, [_widened(part) for part in parts], learned)
        return loss.total.sum(0).reshape(-1), loss.count.sum(0).reshape(-1)


def _beside(parts: Sequence[Columns]) -> tuple[Tensor, Tensor, Tensor | None]:
    if len(parts) == 1:
        return parts[0].labels, parts[0].ids, parts[0].valid
    valid = None if all(p.valid is None for p in parts) else torch.cat([p.holding() for p in parts])
    return torch.cat([p.labels for p in parts]), torch.cat([p.ids for p in parts]), valid


def _joined(parts: Sequence[Columns]) -> Columns:
    labels, ids, valid = _beside(parts)
    dtype = parts[0].embeddings.dtype
    return Columns(torch.cat([p.embeddings.to(dtype) for p in parts]), labels, ids, valid)


def _widened(part: Columns) -> Columns:
    """A number for `valid`: the compiler's loops over bools are an order of magnitude slower."""
    return part if part.valid is None else part._replace(valid=part.valid > 0)
