"""How the places of an image become one vector, in the place of the backbone's own way."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from pullpush.errors import UserError

__all__ = ["AttentionPool", "GeM", "Pool", "Pooling", "learned_pool"]

Pool = Literal["auto", "cls", "mean", "gem", "attention"]
HEADS = (8, 4, 2, 1)


class GeM(nn.Module):
    r"""The generalised mean of places, `[n, places, width] -> [n, width]`:

    $$f_k = \Big( \frac{1}{P} \sum_p \max(x_{pk}, \epsilon)^{\rho} \Big)^{1 / \rho}$$

    with $\rho$ learned from 3 on, at least 1: 1 is the mean, large ones approach the maximum. Negative values count as
    $\epsilon$. Source: Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019, eq. 2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([3.0]))

    def forward(self, x: Tensor) -> Tensor:
        p, x = self.p.clamp_min(1.0), x.clamp_min(1e-6)
        largest = x.amax(1, keepdim=True)  # relative to it, no power is too small or too large for a number
        pooled: Tensor = largest[:, 0] * (x / largest).pow(p).mean(1).pow(1 / p)
        return pooled


class AttentionPool(nn.Module):
    r"""Attention of one learned query, `[n, places, width] -> [n, width]`. Of $H$ heads, each reads its own part of the
    width with its own weights:

    $$f^h = \sum_p a^h_p x^h_p, \quad a^h = \operatorname{softmax}_p(k_h \cdot x_p / \sqrt{\text{width}})$$

    A query that is learned and the map of its keys are one vector $k_h$ a head, which starts at zero: pooling begins as
    the mean. Source: Lee et al., Set Transformer, ICML 2019 (pooling by multihead attention), with places as values.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in HEADS if width % heads == 0)
        self.keys = nn.Parameter(torch.zeros(width, self.heads))

    def forward(self, x: Tensor) -> Tensor:
        weights = (x @ self.keys / x.shape[-1] ** 0.5).softmax(1)  # [n, places, heads]
        parts: Tensor = x.unflatten(-1, (self.heads, -1))  # type: ignore[no-untyped-call]
        pooled: Tensor = (weights.unsqueeze(-1) * parts).sum(1).flatten(1)
        return pooled


def learned_pool(pool: Pool, width: int) -> nn.Module | None:
    """The module of a pooling that learns, None of another."""
    if pool == "gem":
        return GeM()
    return AttentionPool(width) if pool == "attention" else None


class Pooling:
    """Between the two halves of a backbone, `forward_features` and `forward_head`.

    What follows the backbone's own pooling (a norm, a projection) stays: the second half takes the pooled vector as if
    it was that of every place.

    Args:
        backbone: with the conventions of image backbones.
        pool: not `auto`.
        size: side of the images.
        name: of the backbone, for the message.

    Raises:
        UserError: `cls` of a backbone without a class token, or one whose last output is neither maps nor tokens.
    """

    def __init__(self, backbone: nn.Module, pool: Pool, size: int, name: str) -> None:
        self.backbone = cast(Any, backbone)
        self.pool, self.prefix = pool, int(getattr(self.backbone, "num_prefix_tokens", 0))
        self.width = width = int(self.backbone.num_features)
        if pool == "cls" and not self.prefix:
            raise UserError(f"{name!r} has no class token to pool: give --encoder.pool auto, mean, gem or attention")
        with torch.no_grad():
            last = self.backbone.eval().forward_features(torch.zeros(1, 3, size, size))
        shape = tuple(last.shape[1:]) if isinstance(last, Tensor) else ()
        self.layout = "tokens" if len(shape) == 2 and shape[1] == width else "maps" if len(shape) == 3 else ""
        if self.layout == "maps":
            self.layout = "maps" if shape[0] == width else "maps, channels last" if shape[2] == width else ""
        if not self.layout:
            raise UserError(f"the last output of {name!r} is neither maps nor tokens: give --encoder.pool auto")

    def places(self, last: Tensor) -> Tensor:
        """`[n, places, width]` of the last output of the backbone, without tokens that are no places."""
        if self.layout == "tokens":
            return last[:, self.prefix :]
        return last.flatten(2).mT if self.layout == "maps" else last.flatten(1, 2)

    def fixed(self, last: Tensor) -> Tensor:
        """Pooled without anything learned, `[n, width]`."""
        return last[:, 0] if self.pool == "cls" else self.places(last).mean(1)

    def finished(self, pooled: Tensor) -> Tensor:
        """What the backbone makes of a pooled vector."""
        if self.layout == "tokens":
            last = pooled[:, None].expand(-1, self.prefix + 1, -1)
        else:
            last = pooled[:, :, None, None] if self.layout == "maps" else pooled[:, None, None]
        features: Tensor = self.backbone.forward_head(last)
        return features
