"""The cross-batch memory: embeddings of recent batches as extra columns."""

import torch
from torch import Tensor, nn

from pullpush.criterion.columns import Columns

__all__ = ["CrossBatchMemory"]


class CrossBatchMemory(nn.Module):
    """A queue of the most recent embeddings, first in, first out.

    Embeddings drift slowly after the first steps, so those of recent batches serve as references at almost no cost.
    Wang et al., Cross-Batch Memory for Embedding Learning, CVPR 2020 (arXiv 1912.06798).

    Args:
        size: places.
        dim: dimension of the embeddings.
    """

    embeddings: Tensor
    labels: Tensor
    ids: Tensor
    cursor: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("embeddings", torch.zeros(size, dim))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("ids", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def columns(self) -> Columns:
        """All places; those not yet filled are not valid."""
        valid = torch.arange(self.size, device=self.ids.device) < self.filled
        return Columns(self.embeddings, self.labels, self.ids, valid)

    @torch.no_grad()
    def enqueue(self, embeddings: Tensor, labels: Tensor, ids: Tensor) -> None:
        """Writes a batch over the oldest places. Of a batch larger than the memory the last embeddings stay."""
        embeddings, labels, ids = embeddings[-self.size :], labels[-self.size :], ids[-self.size :]
        n = len(ids)
        places = (self.cursor + torch.arange(n, device=self.ids.device)) % self.size
        self.embeddings[places] = embeddings.detach().to(self.embeddings.dtype)
        self.labels[places] = labels
        self.ids[places] = ids
        self.cursor.copy_((self.cursor + n) % self.size)
        self.filled.copy_((self.filled + n).clamp(max=self.size))
