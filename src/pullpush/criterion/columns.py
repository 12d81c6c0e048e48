"""What the anchors are compared with."""

from typing import NamedTuple

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
