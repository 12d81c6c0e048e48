"""Triplet loss with anchor swap."""

from typing import Literal

from pullpush.bounds import NonNegative
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import count_of, widen
from pullpush.maths.triplets import swapped_violations

__all__ = ["triplet_swap"]

Average = Literal["all", "violating"]


@loss(similarity="negative_euclidean", wants_references=True)
def triplet_swap(
    rectangle: Rectangle,
    *,
    margin: NonNegative = 1.0,
    average: Average = "all",
) -> AnchorLoss:
    r"""The triplet loss over all triplets, where anchor and positive change places if the positive is the closer to the
    negative.

    $$L = \frac{1}{|T|} \sum_{(i,p,n)} \big[ m + \max(s_{in}, r_{pn}) - s_{ip} \big]_+$$

    r are the similarities of the references with each other, so it can't be streamed.

    Args:
        rectangle: [anchors, references].
        margin: m, in units of the similarity. 1 is the paper's, of distances.
        average: over "all" triplets, as in the paper, or the "violating" ones, whose loss is above 0.

    Returns:
        AnchorLoss [anchors].

    Source: Balntas et al., Learning Local Feature Descriptors with Triplets and Shallow Convolutional Neural Networks,
    BMVC 2016 (in-triplet hard negatives with anchor swap).
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    total, violating = swapped_violations(s, rectangle.among(), *pairs, margin)
    positives, negatives = (count_of(mask, dtype=s.dtype) for mask in pairs)
    return AnchorLoss(total, violating if average == "violating" else positives * negatives)
