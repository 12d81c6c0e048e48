"""From anchors and columns to the loss: similarity, pairs, miner, loss. No state."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pullpush.criterion.columns import Columns
from pullpush.criterion.compiling import computed_again
from pullpush.maths.choice import Choice, Loss, Miner
from pullpush.maths.pairs import make_pairs
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.relations import same_class
from pullpush.maths.similarity import SIMILARITIES, cosine, dot

__all__ = ["Comparison", "beside"]


class Comparison:
    """Computes some rows.

    Columns come in parts (the batch, the memory), so that a large part is never copied to stand beside a small one:
    the similarities are joined instead.

    Args:
        similarity: of embeddings that are of unit length already where it, the loss or the miner is of unit vectors.
        relation: labels to positives.
        miner: None keeps all pairs.
        loss: of the rectangle.
    """

    def __init__(
        self, similarity: Callable[[Tensor, Tensor], Tensor], relation: Choice[Any], miner: Miner | None, loss: Loss
    ) -> None:
        self.relation, self.miner, self.loss = relation, miner, loss
        self.of_classes = relation.made_by(same_class)
        # The cosine is the dot product of normalised vectors: normalised once a step, not once a block.
        self._similarity = dot if similarity is cosine else similarity
        self.similarity_name = next((name for name, f in SIMILARITIES.items() if f is similarity), "")
        chosen: list[Loss | Miner] = [loss] if miner is None else [loss, miner]
        self.unit_length = similarity is cosine or any(each.traits.unit_length for each in chosen)
        self.wants_references = any(each.traits.wants_references for each in chosen)
        # Of all references, or of so many beside each other, which is by far less and not enough for a miner.
        group, alone = loss.traits.wants_references, miner is None or not miner.traits.wants_references
        self.together = int(loss.options[group]) if isinstance(group, str) and alone and self._similarity is dot else 0
        self.whole = any(each.whole for each in chosen)

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
        similarity = self._between(anchors.embeddings, vectors)
        among: Tensor | None = None
        if self.wants_references:
            joined = vectors[0] if len(vectors) == 1 else torch.cat(list(vectors))
            if self.together:
                joined = joined.unflatten(0, (-1, self.together))
                among = dot(joined, joined)
            else:
                among = similarity if joined is anchors.embeddings else self._between(joined, vectors)
        loss: AnchorLoss = computed_again(self._of_cells, similarity, among, anchors, columns, learned)
        return loss

    def _between(self, x: Tensor, vectors: Sequence[Tensor]) -> Tensor:
        blocks = [self._similarity(x, part) for part in vectors]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)

    def _of_cells(
        self,
        similarity: Tensor,
        reference_similarity: Tensor | None,
        anchors: Columns,
        columns: Columns,
        learned: Mapping[str, Tensor],
    ) -> AnchorLoss:
        pairs = make_pairs(anchors.labels, anchors.ids, columns.labels, columns.ids, self.relation, columns.valid)
        dim = anchors.embeddings.shape[1]
        rectangle = Rectangle(similarity, pairs, reference_similarity, self.similarity_name, dim)
        if self.miner is not None and similarity.numel():
            rectangle = rectangle._replace(pairs=self.miner(rectangle))
        return self.loss(rectangle, **learned)


def beside(parts: Sequence[Columns]) -> Columns:
    """Labels, ids and validity of the parts, joined; the embeddings, which are large, are the first part's alone."""
    if len(parts) == 1:
        return parts[0]
    valid = None if all(p.valid is None for p in parts) else torch.cat([p.holding() for p in parts])
    labels, ids = torch.cat([p.labels for p in parts]), torch.cat([p.ids for p in parts])
    return Columns(parts[0].embeddings, labels, ids, valid)
