"""Margin loss and ranked list loss: a shell for the positives, and a boundary for the negatives."""

import torch
from torch import Tensor
from torch.nn.functional import relu

from pullpush.bounds import NonNegative, Share
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import count_of, sum_of, widen

__all__ = ["margin", "ranked_list"]


@loss(similarity="negative_euclidean", learned=("beta",), unit_length=True)
def margin(
    rectangle: Rectangle,
    *,
    alpha: NonNegative = 0.2,
    beta: NonNegative | Tensor = 1.2,
    nu: NonNegative = 0.0,
) -> AnchorLoss:
    r"""Positives within a boundary that is learned, negatives outside of it, each by a margin.

    $$L = \nu \beta + \frac{1}{|A|} \Big( \sum_p \big[\alpha + d_{ip} - \beta\big]_+
        + \sum_n \big[\alpha - d_{in} + \beta\big]_+ \Big)$$

    over the pairs A whose part is above 0; d is minus the similarity. Meant for the miner `distance_weighted`.

    Args:
        rectangle: [anchors, references], minus a distance between unit vectors.
        alpha: margin. 0.2 is the paper's.
        beta: boundary between positives and negatives, learned. Starts at 1.2, the paper's.
        nu: weight of the penalty on beta. The paper has one and gives no value.

    Returns:
        AnchorLoss [anchors].

    Source: Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017, with one beta for all.
    """
    pairs = rectangle.pairs
    distance = -widen(rectangle.similarity)
    pull = torch.where(pairs.positive, relu(alpha + (distance - beta)), 0.0)
    push = torch.where(pairs.negative, relu(alpha - (distance - beta)), 0.0)
    active = count_of((pull > 0) | (push > 0), dtype=distance.dtype)
    return AnchorLoss((pull + push).sum(1) + nu * beta * active, active)


@loss(similarity="negative_euclidean", unit_length=True)
def ranked_list(
    rectangle: Rectangle,
    *,
    alpha: NonNegative = 1.2,
    margin: NonNegative = 0.4,
    balance: Share = 0.5,
    positive_sharpness: NonNegative = 0.0,
    negative_sharpness: NonNegative = 10.0,
) -> AnchorLoss:
    r"""Positives within a ball, negatives beyond a boundary, the worst of each weighing most.

    $$L_i = (1 - \lambda) \sum_p \frac{w_{ip}}{\sum_q w_{iq}} \big[d_{ip} - (\alpha - m)\big]_+
          + \lambda \sum_n \frac{w_{in}}{\sum_k w_{ik}} \big[\alpha - d_{in}\big]_+$$

    with $w_{ip} = e^{T_p (d_{ip} - (\alpha - m))}$ and $w_{in} = e^{T_n (\alpha - d_{in})}$ of the pairs that violate,
    which the gradient takes as constants. Averaged over all anchors of the batch, as in the paper; d is minus the
    similarity.

    Args:
        rectangle: [anchors, references], minus a distance between unit vectors.
        alpha: boundary of the negatives. 1.2 is the paper's.
        margin: m, from the boundary of the negatives to that of the positives. 0.4 is the paper's.
        balance: lambda. 0.5 weighs both alike, as the paper does.
        positive_sharpness: T_p (the paper calls it temperature). 0: all alike, the paper's simpler form.
        negative_sharpness: T_n. 10 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Wang et al., Ranked List Loss for Deep Metric Learning, CVPR 2019, and TPAMI 2021 (balance, T_p).
    """
    pairs = rectangle.pairs
    distance = -widen(rectangle.similarity)
    pull = _worst_first(distance - (alpha - margin), pairs.positive, positive_sharpness)
    push = _worst_first(alpha - distance, pairs.negative, negative_sharpness)
    return AnchorLoss((1 - balance) * pull + balance * push, torch.ones_like(pull))


def _worst_first(violation: Tensor, mask: Tensor, sharpness: float) -> Tensor:
    """Mean of the violations above 0, weighted by their exponentials."""
    active = mask & ~(violation <= 0)
    with torch.no_grad():
        lowest = torch.finfo(violation.dtype).min
        weight = torch.where(active, sharpness * violation, lowest).softmax(1)
    return sum_of(weight * violation, active)
