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
        return Columns(*(None if x is None else x[rows] for x in self))

    def where(self, valid: Tensor) -> "Columns":
        """The same, holding nothing where `valid` (a bool that broadcasts to [references]) is False."""
        valid = valid.expand_as(self.ids)
        return self._replace(valid=valid if self.valid is None else self.valid & valid)

    def detached(self) -> "Columns":
        """The same without a graph."""
        return self._replace(embeddings=self.embeddings.detach())

    def holding(self) -> Tensor:
        """`valid`, spelled out."""
        return torch.ones_like(self.ids, dtype=torch.bool) if self.valid is None else self.valid
