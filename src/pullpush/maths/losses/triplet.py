"""Triplet loss."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from pullpush.bounds import NonNegative
from pullpush.maths.choice import loss
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import any_of, max_of, min_of, sum_of, widen
from pullpush.maths.triplets import above, violations

__all__ = ["triplet"]

Kind = Literal["all", "hard", "semihard", "easy_positive"]
Average = Literal["all", "violating"]


@loss(similarity="negative_squared_euclidean")
def triplet(
    rectangle: Rectangle,
    *,
    margin: NonNegative | None = 0.2,
    kind: Kind = "all",
    average: Average = "violating",
) -> AnchorLoss:
    r"""A positive shall be closer than a negative, by a margin.

    $$L = \frac{1}{|T|} \sum_{(i,p,n) \in T} \big[ m + s_{in} - s_{ip} \big]_+$$

    or, as a soft margin, $\log(1 + e^{s_{in} - s_{ip}})$. The triplets T of an anchor are

    - `all`: each positive with each negative, exactly, at the cost of sorted rows;
    - `hard`: its farthest positive with its closest negative (batch hard);
    - `semihard`: each positive with the closest of the negatives that are farther than it, if there are any;
    - `easy_positive`: its closest positive with its closest negative.

    Other choices are those of a miner before `all`: one easy positive with one semi-hard negative is `easy_hard`,
    negatives weighted by distance are `distance_weighted`.

    The margin is in units of the similarity. FaceNet's 0.2 is of squared distances between unit vectors, the default
    here; the same triplets violate 0.1 of the cosine, since $|x - y|^2 = 2 - 2 \cos$.

    Args:
        rectangle: [anchors, references].
        margin: m; None for the soft margin. 0.2 is FaceNet's.
        kind: which triplets: "all", "hard", "semihard", "easy_positive".
        average: over "all" chosen triplets, or the "violating" ones, whose loss is above 0: that value does not fade
            as fewer violate. With a soft margin all do.

    Returns:
        AnchorLoss [anchors].

    Source: Schroff et al., FaceNet, CVPR 2015 (margin, semihard). Hermans et al., In Defense of the Triplet Loss for
    Person Re-Identification, arXiv 1703.07737 (batch hard, batch all, soft margin). Xuan et al., Improved Embeddings
    with Easy Positive Triplet Mining, WACV 2020 (easy_positive, with margin None).
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    if kind == "all":
        if margin is not None:
            total, violating, listed = violations(s, *pairs, margin)
            return AnchorLoss(total, violating if average == "violating" else listed)
        total = above(s, pairs.positive, pairs.negative, 1.0, "softplus").sum(1)
        return AnchorLoss(total, pairs.positive.sum(1, dtype=s.dtype) * pairs.negative.sum(1, dtype=s.dtype))
    if kind == "semihard":
        negative, exists = _closest_beyond(s, pairs)
        exists, positive = exists | (negative.isnan() & pairs.positive), s
    else:
        negative = max_of(s, pairs.negative, empty=0.0)[:, None]
        positive = (min_of if kind == "hard" else max_of)(s, pairs.positive, empty=0.0)[:, None]
        exists = (any_of(pairs.positive) & any_of(pairs.negative))[:, None]
    gap = torch.where(exists, negative - positive, 0.0)
    each = softplus(gap) if margin is None else relu(gap + margin)
    counts = exists if average == "all" or margin is None else exists & (gap + margin > 0)
    return AnchorLoss(torch.where(exists, each, 0.0).sum(1), counts.sum(1, dtype=s.dtype))


def _closest_beyond(s: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """For each positive the closest negative farther than it [anchors, references], and whether there is one."""
    lowest = float("-inf")
    ordered, order = torch.where(pairs.negative, s.detach(), lowest).sort(1)
    place = torch.searchsorted(ordered, s.detach().contiguous()) - 1
    inside = place.clamp(min=0)
    exists = pairs.positive & (place >= 0) & (ordered.gather(1, inside) != lowest)
    # A NaN is nobody's closest, and shall be seen.
    unseen = 0.0 * sum_of(s, pairs.negative).detach()[:, None]
    return s.gather(1, order.gather(1, inside)) + unseen, exists
