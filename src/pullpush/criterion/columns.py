"""What the anchors are compared with."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Columns"]


class Columns(NamedTuple):
    """A set of references.

    Attributes:
        embeddings: [references, dim].
        labels: int64 [references], or what the relation takes.
        ids: int64 [references].
        valid: bool [references], False for places that hold nothing; None where all hold something.
    """

    embeddings: Tensor
    labels: Tensor
    ids: Tensor
    valid: Tensor | None = None

    def rows(self, rows: slice) -> "Columns":
        """Some of them."""
        valid = None if self.valid is None else self.valid[rows]
        return Columns(self.embeddings[rows], self.labels[rows], self.ids[rows], valid)

    def holding(self) -> Tensor:
        """`valid`, spelled out."""
        return torch.ones_like(self.ids, dtype=torch.bool) if self.valid is None else self.valid
