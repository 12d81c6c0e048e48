"""Losses on histograms of the similarities."""

import torch
from torch import Tensor

from pullpush.bounds import Bins, Positive
from pullpush.maths.choice import loss
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import any_of, count_of, widen

__all__ = ["fast_ap", "histogram"]


@loss(similarity="negative_squared_euclidean", unit_length=True)
def fast_ap(rectangle: Rectangle, *, bins: Bins = 10, farthest: Positive = 4.0) -> AnchorLoss:
    r"""One minus the average precision, from histograms of the distances.

    $$L_i = 1 - \frac{1}{|P|} \sum_b \frac{H_b^+ h_b^+}{H_b}$$

    where $h^+$ and $h$ are histograms of an anchor's distances to its positives, and to all, and H their running sums,
    nearest first. A distance is shared by the two nodes beside it, in proportion, so there is a gradient. Averaged over
    anchors with a positive.

    Args:
        rectangle: [anchors, references], minus a distance.
        bins: number of bins, between bins + 1 nodes. 10 is the paper's.
        farthest: distance of the last node, which also takes what is farther. 4 for squared distances of unit vectors.

    Returns:
        AnchorLoss [anchors].

    Source: Cakir et al., Deep Metric Learning to Rank (FastAP), CVPR 2019.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    positive, negative = _histograms(-s, pairs, 0.0, farthest, bins)
    hits = positive.cumsum(1)
    seen = hits + negative.cumsum(1)
    precision = hits / torch.where(seen > 0, seen, 1.0)
    counts = any_of(pairs.positive)
    positives = count_of(pairs.positive, dtype=s.dtype).clamp(min=1)
    return AnchorLoss(torch.where(counts, 1 - (positive * precision).sum(1) / positives, 0.0), counts.to(s.dtype))


@loss(whole=True, unit_length=True)
def histogram(rectangle: Rectangle, *, bins: Bins = 100) -> AnchorLoss:
    r"""The probability that a negative pair is more similar than a positive one, from two histograms of the batch.

    $$L = \sum_b h_b^- \sum_{c \le b} h_c^+ $$

    where h are the histograms of all positive and of all negative similarities, each summing to 1. A similarity is
    shared by the two nodes beside it, in proportion. Needs both kinds of pairs; not a sum over anchors.

    Args:
        rectangle: [anchors, references], in [-1, 1]; what lies outside counts at the ends.
        bins: number of bins over [-1, 1]. 100 is ours; results depend little on it.

    Returns:
        AnchorLoss [anchors]: the share of each anchor's negatives.

    Source: Ustinova and Lempitsky, Learning Deep Embeddings with Histogram Loss, NIPS 2016.
    """
    pairs = rectangle.pairs
    positive, negative = _histograms(widen(rectangle.similarity), pairs, -1.0, 1.0, bins)
    pull = positive.sum(0)
    below = (pull / count_of(pairs.positive.flatten(), dtype=pull.dtype).clamp(min=1)).cumsum(0)
    counts = count_of(pairs.negative, dtype=pull.dtype) * pairs.positive.any()
    return AnchorLoss((negative * below).sum(1), counts)


def _histograms(x: Tensor, pairs: Pairs, first: float, last: float, bins: int) -> tuple[Tensor, Tensor]:
    """Of each row's positives and negatives, both [anchors, bins + 1]."""
    place = ((x - first) * (bins / (last - first))).clamp(0, bins)
    low = place.detach().floor().long().clamp(0, bins - 1)
    share = place - low
    counted = pairs.positive | pairs.negative
    # The negatives' nodes stand behind the positives'.
    low = torch.where(pairs.negative, low + bins + 1, low)
    nodes = torch.zeros(len(x), 2 * (bins + 1), dtype=x.dtype, device=x.device)
    nodes = nodes.scatter_add(1, low, torch.where(counted, 1 - share, 0.0))
    nodes = nodes.scatter_add(1, low + 1, torch.where(counted, share, 0.0))
    return nodes[:, : bins + 1], nodes[:, bins + 1 :]
