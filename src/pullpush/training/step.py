"""Forward pass and loss as one module, so that whatever is learned lies in one place."""

import torch
from torch import Tensor, nn

from pullpush.criterion import Criterion

__all__ = ["ImageStep"]


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
        embeddings = self.encode(inputs)
        with torch.autocast(embeddings.device.type, enabled=False):
            loss: Tensor = self.criterion(embeddings.float(), labels, ids)
        return loss
