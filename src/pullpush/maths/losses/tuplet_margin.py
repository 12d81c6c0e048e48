"""Tuplet margin loss."""

from functools import partial

from pullpush.bounds import Positive, Radians
from pullpush.maths.angles import cos_of_sum
from pullpush.maths.choice import loss
from pullpush.maths.losses.base import against_negatives
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import widen

__all__ = ["tuplet_margin"]


@loss(unit_length=True)
def tuplet_margin(rectangle: Rectangle, *, margin: Radians = 0.1, scale: Positive = 64.0) -> AnchorLoss:
    r"""Each positive against all negatives, with slack in the angle.

    $$L_{ip} = \log\Big(1 + \sum_n e^{\sigma (\cos \theta_{in} - \cos(\theta_{ip} - \beta))}\Big)$$

    averaged over positive pairs; $\theta = \arccos s$. The slack lets positives be, that are closer than beta.

    Args:
        rectangle: [anchors, references], cosines.
        margin: beta, in radians. 0.1 (5.73 degrees) is the paper's.
        scale: sigma. 64 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Yu and Tao, Deep Metric Learning with Tuplet Margin Loss, ICCV 2019.
    """
    s = widen(rectangle.similarity).clamp(-1, 1)
    return against_negatives(s, rectangle.pairs, scale, partial(cos_of_sum, angle=-margin))
