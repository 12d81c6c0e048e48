"""Forward pass and loss as one module, so that whatever is learned lies in one place."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pullpush.criterion import Criterion, cached_step, chunked

__all__ = ["ImageStep", "PairStep", "step_in_chunks"]


class ImageStep(nn.Module):
    """Inputs to the loss.

    Args:
        encode: inputs to embeddings [n, dim]; the encoder, or its head where features are cached.
        criterion: embeddings, labels and ids to the loss; always in float32.
    """

    def __init__(self, encode: nn.Module, criterion: Criterion) -> None:
        super().__init__()
        self.encode, self.criterion = encode, criterion

    def forward(self, inputs: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        """A scalar."""
        return self.loss([self.encode(inputs)], labels, ids)

    def towers(self) -> list[nn.Module]:
        """Each takes one of the first arguments of `forward`, and gives one of the embeddings of `loss`."""
        return [self.encode]

    def loss(self, embeddings: Sequence[Tensor], labels: Tensor, ids: Tensor) -> Tensor:
        """Of the embeddings of each tower."""
        with torch.autocast(embeddings[0].device.type, enabled=False):
            loss: Tensor = self.criterion(embeddings[0].float(), labels, ids)
        return loss


class PairStep(nn.Module):
    """Images and descriptions to the loss of both directions.

    Args:
        image, text: inputs to embeddings [n, dim]; encoders, or their heads where features are cached.
        criterion: symmetric; images are the anchors, descriptions the references.
    """

    def __init__(self, image: nn.Module, text: nn.Module, criterion: Criterion) -> None:
        super().__init__()
        self.image, self.text, self.criterion = image, text, criterion

    def forward(self, images: Tensor, texts: Any, labels: Tensor, ids: Tensor, text_ids: Tensor) -> Tensor:
        """A scalar."""
        return self.loss([self.image(images), self.text(texts)], labels, ids, text_ids)

    def towers(self) -> list[nn.Module]:
        """As of `ImageStep`."""
        return [self.image, self.text]

    def loss(self, embeddings: Sequence[Tensor], labels: Tensor, ids: Tensor, text_ids: Tensor) -> Tensor:
        """Of the embeddings of each tower, a row a pair."""
        images, texts = (x.float() for x in embeddings)
        with torch.autocast(images.device.type, enabled=False):
            loss: Tensor = self.criterion(
                images, labels, ids, references=texts, reference_labels=labels, reference_ids=text_ids
            )
        return loss


def step_in_chunks(
    step: ImageStep | PairStep, arguments: Sequence[Any], chunk: int, backward: Callable[[Tensor], None]
) -> Tensor:
    """The loss of a batch and its gradients, embedding `chunk` inputs at a time; see `criterion.cached_step`."""
    towers = step.towers()
    inputs, rest = arguments[: len(towers)], arguments[len(towers) :]
    chunks = [chunked(each, chunk) for each in inputs]
    return cached_step(towers, chunks, lambda *embeddings: step.loss(embeddings, *rest), backward=backward)
