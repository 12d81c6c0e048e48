"""From anchors and columns to the loss: similarity, pairs, miner, loss. No state."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pullpush.criterion.choices import GIVEN, parameters_of
from pullpush.criterion.columns import Columns
from pullpush.criterion.compiling import computed_again
from pullpush.maths.losses import AnchorLoss
from pullpush.maths.pairs import Pairs, make_pairs

__all__ = ["Rectangle", "beside"]


class Rectangle:
    """Computes some rows.

    Columns come in parts (the batch, the memory), so that a large part is never copied to stand beside a small one:
    the similarities are joined instead.
    """

    def __init__(
        self,
        similarity: Callable[[Tensor, Tensor], Tensor],
        similarity_name: str,
        relation: Callable[[Tensor, Tensor], Tensor],
        miner: Callable[..., Pairs] | None,
        loss: Callable[..., AnchorLoss],
        options: Mapping[str, Any],
    ) -> None:
        self.similarity, self.relation, self.miner, self.loss, self.options = similarity, relation, miner, loss, options
        self.similarity_name = similarity_name
        self._of_loss, self._of_miner = (
            GIVEN & parameters_of(f).keys() if f is not None else frozenset() for f in (loss, miner)
        )
        self.wants_references = "reference_similarity" in self._of_loss | self._of_miner

    def __call__(self, anchors: Columns, parts: Sequence[Columns], learned: Mapping[str, Tensor]) -> AnchorLoss:
        """The loss of these anchors.

        Args:
            anchors: the rows.
            parts: the columns, in parts.
            learned: options that are tensors.
        """
        return self._loss(anchors, [p.embeddings for p in parts], beside(parts), learned)

    def sums(
        self, anchors: Columns, vectors: Sequence[Tensor], columns: Columns, learned: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Sums over the anchors of total and count, a number a term. This is what is compiled.

        Args:
            anchors: the rows.
            vectors: embeddings of the columns, in parts.
            columns: what else is known of them. `valid` may be numbers: a compiled loop over bools is slow.
            learned: options that are tensors.
        """
        valid = None if columns.valid is None else columns.valid > 0
        loss = self._loss(anchors, vectors, columns._replace(valid=valid), learned)
        return loss.total.sum(0).reshape(-1), loss.count.sum(0).reshape(-1)

    def _loss(
        self, anchors: Columns, vectors: Sequence[Tensor], columns: Columns, learned: Mapping[str, Tensor]
    ) -> AnchorLoss:
        similarity = self._similarity(anchors.embeddings, vectors)
        among: Tensor | None = None
        if self.wants_references:
            same = len(vectors) == 1 and vectors[0] is anchors.embeddings
            among = similarity if same else self._similarity(torch.cat(list(vectors)), vectors)
        return computed_again(self._of_cells, similarity, among, anchors, columns, learned)

    def _similarity(self, x: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        found = [self.similarity(x, part) for part in vectors]
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def _of_cells(
        self,
        similarity: Tensor,
        reference_similarity: Tensor | None,
        anchors: Columns,
        columns: Columns,
        learned: Mapping[str, Tensor],
    ) -> AnchorLoss:
        pairs = self._pairs(anchors, columns)
        given: dict[str, Any] = {
            "reference_similarity": reference_similarity,
            "similarity_name": self.similarity_name,
            "dim": anchors.embeddings.shape[1],
        }
        if self.miner is not None:
            pairs = self.miner(similarity, pairs, **{k: given[k] for k in self._of_miner})
        return self.loss(similarity, pairs, **{**self.options, **learned, **{k: given[k] for k in self._of_loss}})

    def _pairs(self, anchors: Columns, columns: Columns) -> Pairs:
        return make_pairs(anchors.labels, anchors.ids, columns.labels, columns.ids, self.relation, columns.valid)


def beside(parts: Sequence[Columns]) -> Columns:
    """Labels, ids and validity of the parts, joined; the embeddings, which are large, are the first part's alone."""
    if len(parts) == 1:
        return parts[0]
    valid = None if all(p.valid is None for p in parts) else torch.cat([p.holding() for p in parts])
    labels, ids = torch.cat([p.labels for p in parts]), torch.cat([p.ids for p in parts])
    return Columns(parts[0].embeddings, labels, ids, valid)
