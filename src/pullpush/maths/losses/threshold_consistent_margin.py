"""Threshold-consistent margin."""

import torch
from torch.nn.functional import relu

from pullpush.bounds import NonNegative, Real
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import count_of, sum_of, widen

__all__ = ["threshold_consistent_margin"]


@loss()
def threshold_consistent_margin(
    rectangle: Rectangle,
    *,
    positive_margin: Real = 0.9,
    negative_margin: Real = 0.5,
    positive_weight: NonNegative = 1.0,
    negative_weight: NonNegative = 1.0,
) -> AnchorLoss:
    r"""Draws hard pairs to one threshold that serves all classes. A regulariser, to be added to another loss.

    $$L = \lambda^+ \frac{\sum_p (m^+ - s_{ip}) [s_{ip} \le m^+]}{\sum_p [s_{ip} \le m^+]}
        + \lambda^- \frac{\sum_n (s_{in} - m^-) [s_{in} \ge m^-]}{\sum_n [s_{in} \ge m^-]}$$

    each over all pairs of the batch.

    Args:
        rectangle: [anchors, references], cosines.
        positive_margin: m+. 0.9 is the paper's.
        negative_margin: m-. 0.5 is the paper's.
        positive_weight: lambda+. 1 is the paper's.
        negative_weight: lambda-. 1 is the paper's.

    Returns:
        AnchorLoss [anchors, 2], positives and negatives apart.

    Source: Zhang et al., Threshold-Consistent Margin Loss for Open-World Deep Metric Learning, ICLR 2024
    (arXiv 2307.04047).
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    far = pairs.positive & ~(s > positive_margin)
    close = pairs.negative & ~(s < negative_margin)
    pull = positive_weight * sum_of(relu(positive_margin - s), far)
    push = negative_weight * sum_of(relu(s - negative_margin), close)
    counts = [count_of(mask, dtype=s.dtype) for mask in (far, close)]
    return AnchorLoss(torch.stack([pull, push], 1), torch.stack(counts, 1))
