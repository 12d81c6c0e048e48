"""Lifted structured losses."""

import torch

from pullpush.bounds import NonNegative
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import count_of, logsumexp_of, sum_of, widen

__all__ = ["generalized_lifted_structure", "lifted_structure"]


@loss(similarity="negative_euclidean", whole=True)
def lifted_structure(rectangle: Rectangle, *, margin: NonNegative = 1.0) -> AnchorLoss:
    r"""Each positive pair against all negatives of both its ends.

    $$L = \frac{1}{2|P|} \sum_{(i,j) \in P} \Big[\log\Big(\sum_{(i,k) \in N} e^{m + s_{ik}}
        + \sum_{(l,j) \in N} e^{m + s_{lj}}\Big) - s_{ij}\Big]_+^2 \qquad s = -\text{distance}$$

    The negatives of an anchor are in its row, those of a reference in its column: where the columns are the batch
    itself, this is the paper's sum. It needs all rows at once, so it can't be streamed.

    Args:
        rectangle: [anchors, references], minus the Euclidean distance.
        margin: m, in units of the distance. 1 is the paper's code's; the paper leaves it open.

    Returns:
        AnchorLoss [anchors], counting positive pairs.

    Source: Oh Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    of_anchor = logsumexp_of(s, pairs.negative)[:, None]
    of_reference = logsumexp_of(s, pairs.negative, dim=0)[None, :]
    each = (torch.logaddexp(of_anchor, of_reference) + margin - s).relu().square() / 2
    return AnchorLoss(sum_of(each, pairs.positive), count_of(pairs.positive, dtype=s.dtype))


@loss(similarity="negative_euclidean")
def generalized_lifted_structure(rectangle: Rectangle, *, margin: NonNegative = 1.0) -> AnchorLoss:
    r"""All positives of an anchor against all its negatives.

    $$L_i = \Big[\log \sum_p e^{-s_{ip}} + \log \sum_n e^{m + s_{in}}\Big]_+ \qquad s = -\text{distance}$$

    averaged over all anchors of the batch, over which the paper sums; one without both kinds of pairs gives 0.

    Args:
        rectangle: [anchors, references], minus the Euclidean distance.
        margin: m, in units of the distance. 1 is among the paper's (0.1 to 1).

    Returns:
        AnchorLoss [anchors].

    Source: Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, 2017 (L_LG).
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    # Where a side is empty its sum is far below 0.
    each = (logsumexp_of(-s, pairs.positive) + logsumexp_of(s, pairs.negative) + margin).relu()
    return AnchorLoss(each, torch.ones_like(each))
