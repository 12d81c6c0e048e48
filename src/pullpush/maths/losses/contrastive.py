"""Contrastive losses: a hinge on each pair by itself."""

from typing import Literal

import torch

from pullpush.bounds import Real
from pullpush.maths.choice import loss
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import count_of, sum_of, widen

__all__ = ["contrastive", "snr_contrastive"]

Average = Literal["nonzero", "pairs", "anchors"]


@loss()
def contrastive(
    rectangle: Rectangle,
    *,
    positive_margin: Real = 1.0,
    negative_margin: Real = 0.5,
    squared: bool = False,
    average: Average = "nonzero",
) -> AnchorLoss:
    r"""Pulls each positive above one margin and pushes each negative below another.

    $$L = \operatorname*{avg}_{(i,p)} [m_+ - s_{ip}]_+ + \operatorname*{avg}_{(i,n)} [s_{in} - m_-]_+$$

    Hadsell's form is `similarity="negative_euclidean", positive_margin=0, negative_margin=-1, squared=True`
    (the paper has a factor 1/2 besides).

    Args:
        rectangle: [anchors, references].
        positive_margin: in units of the similarity; a positive above it gives nothing. 1, the cosine's end, is XBM's.
        negative_margin: in units of the similarity; a negative below it gives nothing. 0.5 is XBM's for the cosine.
        squared: squares each hinge, as in Hadsell et al.
        average: "nonzero" divides the positive and the negative sum each by the number of pairs that give something;
            "pairs" each by the number of its pairs; "anchors" both by the number of all anchors, as XBM does.

    Returns:
        AnchorLoss [anchors, 2], positives and negatives; [anchors] for "anchors".

    Source: Hadsell et al., Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006; on the cosine,
    Wang et al., Cross-Batch Memory for Embedding Learning, CVPR 2020.
    """
    return _hinges(rectangle, positive_margin, negative_margin, squared, average)


@loss(similarity="snr")
def snr_contrastive(
    rectangle: Rectangle,
    *,
    positive_margin: Real = 0.0,
    negative_margin: Real = -1.0,
    average: Average = "nonzero",
) -> AnchorLoss:
    r"""The contrastive loss on the signal-to-noise ratio.

    $$L = \operatorname*{avg}_{(i,p)} [m_+ - s_{ip}]_+ + \operatorname*{avg}_{(i,n)} [s_{in} - m_-]_+
      \qquad s_{ij} = -\frac{\mathrm{var}(y_j - x_i)}{\mathrm{var}(x_i)}$$

    The anchor is the signal, its difference from the reference is the noise. The paper's penalty on embeddings whose
    mean is not zero is left to a regulariser.

    Args:
        rectangle: [anchors, references], the similarity `snr`.
        positive_margin: minus the noise-to-signal ratio below which a positive gives nothing.
        negative_margin: minus the ratio above which a negative gives nothing. The paper leaves it open.
        average: as in `contrastive`.

    Returns:
        AnchorLoss as in `contrastive`.

    Source: Yuan et al., Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning, CVPR 2019, DSML with
    the contrastive loss.
    """
    return _hinges(rectangle, positive_margin, negative_margin, False, average)


def _hinges(
    rectangle: Rectangle, positive_margin: float, negative_margin: float, squared: bool, average: Average
) -> AnchorLoss:
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    # The hinges as masks, cheaper than relu; a NaN passes them.
    kept = Pairs(pairs.positive & ~(s >= positive_margin), pairs.negative & ~(s <= negative_margin))
    hinges = positive_margin - s, s - negative_margin
    if squared:
        hinges = hinges[0].square(), hinges[1].square()
    total = torch.stack([sum_of(x, mask) for x, mask in zip(hinges, kept, strict=True)], dim=1)
    if average == "anchors":
        each = total.sum(1)
        return AnchorLoss(each, torch.ones_like(each))
    counted = kept if average == "nonzero" else pairs
    return AnchorLoss(total, torch.stack([count_of(mask, dtype=s.dtype) for mask in counted], dim=1))
