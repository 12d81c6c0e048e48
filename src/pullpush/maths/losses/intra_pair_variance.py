"""Intra-pair variance loss."""

import torch

from pullpush.bounds import Share
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import count_of, sum_of, widen

__all__ = ["intra_pair_variance"]


@loss(whole=True)
def intra_pair_variance(
    rectangle: Rectangle, *, positive_slack: Share = 0.01, negative_slack: Share = 0.01
) -> AnchorLoss:
    r"""Draws positives that lie below their mean up to it, and negatives above theirs down to it.

    $$L = \operatorname*{avg}_{(i,p)} \big[(1 - \epsilon_+) \mu_+ - s_{ip}\big]_+^2
        + \operatorname*{avg}_{(i,n)} \big[s_{in} - (1 + \epsilon_-) \mu_-\big]_+^2$$

    with the means over all positive and all negative pairs of the batch, so it can't be streamed. Meant to be added to
    another loss: alone it separates nothing.

    Args:
        rectangle: [anchors, references], the cosine.
        positive_slack: epsilon of the positives, a fraction of their mean. 0.01 is PML's; the paper leaves it open.
        negative_slack: epsilon of the negatives.

    Returns:
        AnchorLoss [anchors, 2], positives and negatives.

    Source: Yu and Tao, Deep Metric Learning with Tuplet Margin Loss, ICCV 2019, the intra-pair variance loss.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    sums = torch.stack([sum_of(s, side) for side in pairs], dim=1)
    counts = torch.stack([count_of(side, dtype=s.dtype) for side in pairs], dim=1)
    positive, negative = (sums.sum(0) / counts.sum(0).clamp(min=1)).unbind()
    pull = ((1 - positive_slack) * positive - s).relu().square()
    push = (s - (1 + negative_slack) * negative).relu().square()
    total = torch.stack([sum_of(pull, pairs.positive), sum_of(push, pairs.negative)], dim=1)
    return AnchorLoss(total, counts)
