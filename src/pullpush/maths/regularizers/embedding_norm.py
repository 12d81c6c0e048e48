"""A penalty on long embeddings."""

import torch
from torch import Tensor

from pullpush.maths.choice import regularizer
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss
from pullpush.maths.reduce import widen

__all__ = ["embedding_norm"]


@regularizer()
def embedding_norm(embeddings: Tensor, references: Tensor, pairs: Pairs) -> AnchorLoss:
    r"""The squared length, for losses of the dot product, which could otherwise grow for ever.

    $$L = \frac{1}{2} \Big( \frac{1}{N} \sum_i |x_i|^2 + \frac{1}{M} \sum_j |y_j|^2 \Big)$$

    the means over N anchors and over M references, since both could grow; where the batch is compared with itself, its
    mean. Without effect on the direction, so not for similarities that normalise.

    Args:
        embeddings: x [anchors, dim].
        references: y [references, dim].
        pairs: masks [anchors, references]; not needed.

    Returns:
        AnchorLoss [anchors].

    Source: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016.
    """
    squared = widen(embeddings).square().sum(1)
    other = widen(references).square().sum() / max(1, len(references))
    return AnchorLoss((squared + other) / 2, torch.ones_like(squared))
