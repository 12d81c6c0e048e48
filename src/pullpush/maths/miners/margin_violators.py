"""Pairs that violate a margin."""

from pullpush.bounds import NonNegative, Real
from pullpush.maths.choice import miner
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle
from pullpush.maths.reduce import max_of, min_of

__all__ = ["margin_violators", "pair_margin"]


@miner()
def margin_violators(rectangle: Rectangle, *, margin: NonNegative = 0.2) -> Pairs:
    r"""Keeps the pairs that take part in a triplet which violates the margin.

    $$ \text{positive kept:}\; \exists n: s_{ip} < s_{in} + m \qquad
       \text{negative kept:}\; \exists p: s_{in} > s_{ip} - m $$

    An anchor without positives keeps no negative and the other way round. Not every triplet of kept pairs violates it.

    Args:
        rectangle: [anchors, references].
        margin: m, in units of the similarity. 0.2 is FaceNet's, of squared distances.

    Source: Schroff et al., FaceNet, CVPR 2015; as masks, the pairs of all triplets that violate it.
    """
    s, pairs = rectangle.similarity.detach(), rectangle.pairs
    closest_negative = max_of(s, pairs.negative)[:, None]
    farthest_positive = min_of(s, pairs.positive)[:, None]
    return Pairs(
        pairs.positive & ~(s >= closest_negative + margin),
        pairs.negative & ~(s + margin <= farthest_positive),
    )


@miner()
def pair_margin(rectangle: Rectangle, *, positive_below: Real = 0.8, negative_above: Real = 0.2) -> Pairs:
    r"""Keeps positives that are not yet close enough and negatives that are not yet far enough.

    $$ \text{positive kept:}\; s_{ip} < m_+ \qquad \text{negative kept:}\; s_{in} > m_- $$

    Args:
        rectangle: [anchors, references].
        positive_below: m+, in units of the similarity. Ours, for the cosine; no paper gives one.
        negative_above: m-, likewise.

    Source: the active pairs of the contrastive loss, Hadsell et al., Dimensionality Reduction by Learning an Invariant
    Mapping, CVPR 2006, with a margin on both sides.
    """
    s, pairs = rectangle.similarity.detach(), rectangle.pairs
    return Pairs(pairs.positive & ~(s >= positive_below), pairs.negative & ~(s <= negative_above))
