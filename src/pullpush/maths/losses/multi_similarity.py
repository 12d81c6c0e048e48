"""Multi-similarity loss."""

import torch
from torch.nn.functional import softplus

from pullpush.bounds import Positive, Real
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import largest_exponent, logsumexp_of_two, widen

__all__ = ["multi_similarity"]


@loss()
def multi_similarity(
    rectangle: Rectangle, *, alpha: Positive = 2.0, beta: Positive = 50.0, base: Real = 0.5
) -> AnchorLoss:
    r"""Weighs each pair by itself and by its neighbours.

    $$L_i = \frac{1}{\alpha} \log\Big(1 + \sum_{p} e^{-\alpha (s_{ip} - \lambda)}\Big)
          + \frac{1}{\beta} \log\Big(1 + \sum_{n} e^{\beta (s_{in} - \lambda)}\Big)$$

    averaged over all anchors of the batch, with a pair or without, as in the paper and its released code: the fewer
    pairs the miner finds, the smaller the loss. Meant for the cosine and for the miner of the same name.

    Args:
        rectangle: [anchors, references].
        alpha: sharpness on positives. 2 is the paper's.
        beta: sharpness on negatives. 50 is the paper's.
        base: the similarity lambda at which both sides balance. The paper's text says 1, its released code 0.5.

    Returns:
        AnchorLoss [anchors].

    Source: Wang et al., Multi-Similarity Loss with General Pair Weighting, CVPR 2019.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    # The shift by base is taken out of the sums: a pass over the rectangle less for each.
    largest = largest_exponent(rectangle.similarity_name, alpha, beta)
    positives, negatives = logsumexp_of_two(-alpha * s, pairs.positive, beta * s, pairs.negative, largest)
    pull, push = softplus(positives + alpha * base) / alpha, softplus(negatives - beta * base) / beta
    return AnchorLoss(pull + push, torch.ones_like(pull))
