"""A step: what the towers of a run make of a batch, and the loss of that."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pullpush.criterion import Criterion, cached_step, chunked
from pullpush.criterion.compiling import Compiled

__all__ = ["OTHER_IDS", "Step", "compare"]

# The ids of a second tower's entries differ by this from those of the items: a text is never the item it belongs to.
OTHER_IDS = 1 << 48


class Step(nn.Module):
    """Forward pass and loss as one module, so that whatever is learned lies in one place.

    Args:
        encoders: by the name of their tower; each takes its inputs to embeddings [n, dim].
        criterion: embeddings, labels and ids to the loss, always in float32. Of two towers the embeddings of the first
            are the anchors, those of the second the references.
        compile: the encoders are compiled, each at its first call here; elsewhere they run as they are.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], criterion: Criterion, compile: bool = False) -> None:
        super().__init__()
        self._names = list(encoders) if len(encoders) > 1 else ["encode"]
        for name, encode in zip(self._names, encoders.values(), strict=True):
            self.add_module(name, encode)
        self.criterion = criterion
        self._calls: list[Callable[[Any], Tensor]] = [
            Compiled(encode, f"encoder {name!r}", whole=False) if compile else encode
            for name, encode in encoders.items()
        ]

    @property
    def encoders(self) -> list[nn.Module]:
        """In the order of the inputs."""
        return [self.get_submodule(name) for name in self._names]

    def forward(self, inputs: Sequence[Any], labels: Tensor, ids: Tensor) -> Tensor:
        """The loss.

        Args:
            inputs: of each tower.
            labels: int64 [n], or [n, 2] with two towers.
            ids: of the items, int64 [n].
        """
        return self.loss([encode(x) for encode, x in zip(self._calls, inputs, strict=True)], labels, ids)

    def loss(self, embeddings: Sequence[Tensor], labels: Tensor, ids: Tensor) -> Tensor:
        """The loss of the embeddings of each tower."""
        with torch.autocast(embeddings[0].device.type, enabled=False):
            return compare(self.criterion, embeddings, labels, ids)

    def in_chunks(
        self, inputs: Sequence[Any], labels: Tensor, ids: Tensor, chunk: int, backward: Callable[[Tensor], None]
    ) -> Tensor:
        """The loss of a batch and its gradients, embedding `chunk` inputs at a time; see `criterion.cached_step`."""
        chunks = [chunked(each, chunk) for each in inputs]
        return cached_step(self.encoders, chunks, lambda *x: self.loss(x, labels, ids), backward=backward)


def compare(criterion: Criterion, embeddings: Sequence[Tensor], labels: Tensor, ids: Tensor) -> Tensor:
    """The loss among the embeddings of one tower, or between those of two, a row a pair."""
    anchors, *others = (x.float() for x in embeddings)
    references = (
        {"references": others[0], "reference_labels": labels, "reference_ids": ids + OTHER_IDS} if others else {}
    )
    loss: Tensor = criterion(anchors, labels, ids, **references)
    return loss
