"""The miner of the multi-similarity loss."""

from pullpush.bounds import NonNegative
from pullpush.maths.choice import miner
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle
from pullpush.maths.reduce import max_of, min_of

__all__ = ["multi_similarity"]


@miner()
def multi_similarity(rectangle: Rectangle, *, epsilon: NonNegative = 0.1) -> Pairs:
    r"""Keeps negatives closer than the farthest positive, and positives farther than the closest negative, with slack.

    $$ \text{negative kept:}\; s_{in} > \min_p s_{ip} - \epsilon \qquad
       \text{positive kept:}\; s_{ip} < \max_n s_{in} + \epsilon $$

    An anchor without positives keeps no negative and the other way round: there is nothing to compare with. It still
    counts as an anchor where a loss is averaged over the batch.

    Args:
        rectangle: [anchors, references].
        epsilon: slack, in units of the similarity. 0.1 is the paper's.

    Source: Wang et al., Multi-Similarity Loss with General Pair Weighting, CVPR 2019.
    """
    s, pairs = rectangle.similarity.detach(), rectangle.pairs
    farthest_positive = min_of(s, pairs.positive)[:, None]
    closest_negative = max_of(s, pairs.negative)[:, None]
    return Pairs(
        # "Not closer" instead of "farther": pairs with a NaN are kept, and show it.
        pairs.positive & ~(s >= closest_negative + epsilon),
        pairs.negative & ~(s <= farthest_positive - epsilon),
    )
