"""Batch-hard mining."""

from pullpush.maths.choice import miner
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle
from pullpush.maths.reduce import any_of, max_of, min_of

__all__ = ["hardest"]


@miner()
def hardest(rectangle: Rectangle) -> Pairs:
    r"""Keeps each anchor's farthest positive and closest negative.

    $$ \text{positive kept:}\; s_{ip} = \min_q s_{iq} \qquad \text{negative kept:}\; s_{in} = \max_k s_{ik} $$

    Equally far ones are all kept, so that no order decides. An anchor that lacks positives or negatives keeps nothing.

    Args:
        rectangle: [anchors, references].

    Source: Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, arXiv 1703.07737.
    """
    s, pairs = rectangle.similarity.detach(), rectangle.pairs
    both = (any_of(pairs.positive) & any_of(pairs.negative))[:, None]
    farthest = min_of(s, pairs.positive)[:, None]
    closest = max_of(s, pairs.negative)[:, None]
    # "Not above" instead of "equal": pairs with a NaN are kept, and show it.
    return Pairs(pairs.positive & both & ~(s > farthest), pairs.negative & both & ~(s < closest))
