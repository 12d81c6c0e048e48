"""The vector encoder: what other models made of things, with a head that learns."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pullpush.bounds import Dim, Part, Seed, checked
from pullpush.data.items import Items
from pullpush.encoders.encoder import Encoder, Head, seeded
from pullpush.errors import UserError

__all__ = ["VectorEncoder"]


class Standardised(nn.Module):
    """Each column with the mean 0 and the variance 1 of the vectors that it was made for; 0 where these are alike."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """`(x - mean) * scale`, `[n, width]`."""
        return (x - self.mean) * self.scale


class VectorEncoder(Encoder):
    """Vectors `[n, width]` to embeddings `[n, dim]` of length 1.

    Whatever a model knows of sounds, molecules, products or images becomes comparable by class: the head is trained,
    and the model that made the vectors is not needed.

    Args:
        width: of the vectors.
        dim, head, hidden, dropout, normalize: as of `Encoder`.
        seed: of the random values of the head.
    """

    kind = "vector"
    backbone: Standardised

    @checked
    def __init__(
        self,
        width: Dim,
        *,
        dim: Dim = 128,
        head: Head = "linear",
        hidden: Dim = 512,
        dropout: Part = 0.0,
        normalize: bool = True,
        seed: Seed = 0,
    ) -> None:
        with seeded(seed):
            backbone = Standardised(width)
            super().__init__(f"{width} numbers", backbone, width, dim, head, hidden, dropout, False, normalize)

    @classmethod
    def for_items(cls, items: Items, *, dim: int, head: Head, hidden: int, dropout: float, seed: int) -> Self:
        """For the column `vector` of these items, standardised by those of the training split.

        Raises:
            UserError: there is no such column, or its vectors differ in length.
        """
        widths = sorted({len(vector) for vector in cls.of_items(items)})
        if len(widths) > 1:
            raise UserError(f"{items.name}: the vectors have {widths[0]} to {widths[-1]} numbers: give all as many")
        encoder = cls(widths[0], dim=dim, head=head, hidden=hidden, dropout=dropout, seed=seed)
        x = torch.from_numpy(np.stack(cls.of_items(items.split("train")))).double()
        mean, deviation = x.mean(0), x.std(0, correction=0)
        encoder.backbone.mean.copy_(mean)
        varies = deviation > 1e-12 * mean.abs()  # what no training vector shows would outweigh all that they do
        encoder.backbone.scale.copy_(torch.where(varies, deviation.reciprocal(), 0.0))
        return encoder

    @classmethod
    def of_items(cls, items: Items) -> Sequence[NDArray[np.float32]]:
        """Their column `vector`.

        Raises:
            UserError: there is none.
        """
        if "vector" not in items.table.columns:
            raise UserError(f"{items.name} has no vectors: give --data vectors --data.root FILE.npz")
        return list(items.table["vector"])

    def prepare(self, inputs: Sequence[Any], first: int = 0) -> Tensor:
        """float32 `[n, width]`; see `Encoder.prepare`."""
        for place, vector in enumerate(inputs, first):
            shape = np.shape(vector)
            if shape != (self.width,) or not np.isfinite(vector).all():
                raise UserError(f"vector {place} must be {self.width} finite numbers, it has the shape {shape}")
        return torch.from_numpy(np.array(inputs, np.float32).reshape(-1, self.width)).to(self.device)

    def features(self, inputs: Tensor) -> Tensor:
        """The vectors, standardised, `[n, width]`."""
        return self.backbone(inputs)  # type: ignore[no-any-return]  # torch's modules return Any

    def config(self) -> dict[str, Any]:
        """What `rebuild` needs, as plain JSON values."""
        left_out = ("name", "freeze")
        return {"width": self.width, **{k: v for k, v in super().config().items() if k not in left_out}}
