"""Angular loss."""

import math

from pullpush.bounds import Degrees
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import count_of, widen
from pullpush.maths.triplets import angular_sum

__all__ = ["angular"]


@loss(wants_references=True)
def angular(rectangle: Rectangle, *, degrees: Degrees = 40.0) -> AnchorLoss:
    r"""A bound on the angle at the negative, in the triangle with anchor and positive, which knows no scale.

    $$L_{ip} = \log\Big(1 + \sum_n e^{4 t (s_{in} + r_{pn}) - 2 (1 + t) s_{ip}}\Big) \qquad t = \tan^2 \alpha$$

    averaged over positive pairs; r are the similarities of the references with each other, so it can't be streamed. The
    paper adds it to the N-pair loss, with weight 2.

    Args:
        rectangle: [anchors, references], cosine or dot.
        degrees: alpha. The paper tries 36 to 55.

    Returns:
        AnchorLoss [anchors].

    Source: Wang et al., Deep Metric Learning with Angular Loss, ICCV 2017.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    total = angular_sum(s, rectangle.among(), *pairs, math.tan(math.radians(degrees)) ** 2)
    return AnchorLoss(total, count_of(pairs.positive, dtype=s.dtype))
