"""A penalty on long embeddings."""

import torch
from torch import Tensor

from pullpush.maths.losses.base import AnchorLoss
from pullpush.maths.pairs import Pairs
from pullpush.maths.reduce import widen

__all__ = ["embedding_norm"]


def embedding_norm(embeddings: Tensor, references: Tensor, pairs: Pairs) -> AnchorLoss:
    r"""The squared length, for losses of the dot product, which could otherwise grow for ever.

    $$L_i = |x_i|^2$$

    averaged over anchors. Without effect on the direction, so not for similarities that normalise.

    Args:
        embeddings: x [anchors, dim].
        references: [references, dim]; not needed.
        pairs: masks [anchors, references]; not needed.

    Returns:
        AnchorLoss [anchors].

    Source: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016.
    """
    squared = widen(embeddings).square().sum(1)
    return AnchorLoss(squared, torch.ones_like(squared))
