"""Angular loss."""

import math

from torch import Tensor

from pullpush.bounds import Degrees
from pullpush.maths.losses.base import AnchorLoss
from pullpush.maths.pairs import Pairs
from pullpush.maths.reduce import count_of, widen
from pullpush.maths.through import angular_sum

__all__ = ["angular"]


def angular(similarity: Tensor, pairs: Pairs, *, reference_similarity: Tensor, degrees: Degrees = 40.0) -> AnchorLoss:
    r"""A bound on the angle at the negative, in the triangle with anchor and positive, which knows no scale.

    $$L_{ip} = \log\Big(1 + \sum_n e^{4 t (s_{in} + r_{pn}) - 2 (1 + t) s_{ip}}\Big) \qquad t = \tan^2 \alpha$$

    averaged over positive pairs; r are the similarities of the references with each other, so it can't be streamed. The
    paper adds it to the N-pair loss, with weight 2.

    Args:
        similarity: [anchors, references], cosine or dot.
        pairs: masks of the same shape.
        reference_similarity: r [references, references].
        degrees: alpha. The paper tries 36 to 55.

    Returns:
        AnchorLoss [anchors].

    Source: Wang et al., Deep Metric Learning with Angular Loss, ICCV 2017.
    """
    s = widen(similarity)
    total = angular_sum(s, reference_similarity, *pairs, math.tan(math.radians(degrees)) ** 2)
    return AnchorLoss(total, count_of(pairs.positive, dtype=s.dtype))
