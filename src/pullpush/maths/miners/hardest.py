"""Batch-hard mining."""

from torch import Tensor

from pullpush.maths.pairs import Pairs
from pullpush.maths.reduce import any_of, max_of, min_of

__all__ = ["hardest"]


def hardest(similarity: Tensor, pairs: Pairs) -> Pairs:
    r"""Keeps each anchor's farthest positive and closest negative.

    $$ \text{positive kept:}\; s_{ip} = \min_q s_{iq} \qquad \text{negative kept:}\; s_{in} = \max_k s_{ik} $$

    Equally far ones are all kept, so that no order decides. An anchor that lacks positives or negatives keeps nothing.

    Args:
        similarity: [anchors, references].
        pairs: masks of the same shape.

    Source: Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, arXiv 1703.07737.
    """
    s = similarity.detach()
    both = (any_of(pairs.positive) & any_of(pairs.negative))[:, None]
    farthest = min_of(s, pairs.positive)[:, None]
    closest = max_of(s, pairs.negative)[:, None]
    # "Not above" instead of "equal": pairs with a NaN are kept, and show it.
    return Pairs(pairs.positive & both & ~(s > farthest), pairs.negative & both & ~(s < closest))
