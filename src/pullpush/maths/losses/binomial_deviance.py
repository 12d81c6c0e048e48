"""Binomial deviance."""

import torch
from torch.nn.functional import softplus

from pullpush.bounds import Positive, Real
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import count_of, sum_of, widen

__all__ = ["binomial_deviance"]


@loss()
def binomial_deviance(
    rectangle: Rectangle, *, scale: Positive = 2.0, boundary: Real = 0.5, negative_cost: Positive = 25.0
) -> AnchorLoss:
    r"""A soft hinge on each pair: positives above a boundary, negatives below it, where errors cost more.

    $$L = \operatorname*{avg}_{(i,p)} \log\big(1 + e^{-\alpha (s_{ip} - \beta)}\big)
        + \operatorname*{avg}_{(i,n)} \log\big(1 + e^{\alpha C (s_{in} - \beta)}\big)$$

    Args:
        rectangle: [anchors, references], the cosine.
        scale: alpha, per unit of the similarity. 2, as it is run beside the histogram loss.
        boundary: beta, in units of the similarity. 0.5, likewise.
        negative_cost: C, the steepness of the negatives, of which there are more. 25, likewise.

    Returns:
        AnchorLoss [anchors, 2], positives and negatives.

    Source: Yi et al., Deep Metric Learning for Practical Person Re-Identification, ICPR 2014; constants of Ustinova and
    Lempitsky, Learning Deep Embeddings with Histogram Loss, NIPS 2016.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    pull = sum_of(softplus(-scale * (s - boundary)), pairs.positive)
    push = sum_of(softplus(scale * negative_cost * (s - boundary)), pairs.negative)
    return AnchorLoss(torch.stack([pull, push], 1), torch.stack([count_of(m, dtype=s.dtype) for m in pairs], 1))
