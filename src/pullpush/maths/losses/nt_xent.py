"""Softmax of each positive among the negatives: NT-Xent, and its decoupled form."""

from pullpush.bounds import Positive
from pullpush.maths.choice import loss
from pullpush.maths.losses.base import against_negatives, without_itself
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import widen

__all__ = ["decoupled_contrastive", "nt_xent"]


@loss()
def nt_xent(rectangle: Rectangle, *, temperature: Positive = 0.1) -> AnchorLoss:
    r"""Normalised temperature-scaled cross entropy, also called InfoNCE: each positive against all negatives.

    $$L_{ip} = -\log \frac{e^{s_{ip}/\tau}}{e^{s_{ip}/\tau} + \sum_n e^{s_{in}/\tau}}$$

    averaged over positive pairs. Other positives of the anchor are not in the denominator.

    Args:
        rectangle: [anchors, references].
        temperature: tau, in units of the similarity. 0.1 is the paper's best.

    Returns:
        AnchorLoss [anchors], counting positive pairs.

    Source: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020;
    van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018.
    """
    return against_negatives(widen(rectangle.similarity), rectangle.pairs, 1 / temperature)


@loss()
def decoupled_contrastive(rectangle: Rectangle, *, temperature: Positive = 0.1) -> AnchorLoss:
    r"""NT-Xent without the positive in the denominator, which lets small batches learn.

    $$L_{ip} = -\frac{s_{ip}}{\tau} + \log \sum_n e^{s_{in}/\tau}$$

    averaged over positive pairs of anchors that have a negative. Not bounded below by 0.

    Args:
        rectangle: [anchors, references].
        temperature: tau, in units of the similarity. 0.1 is the paper's.

    Returns:
        AnchorLoss [anchors], counting positive pairs.

    Source: Yeh et al., Decoupled Contrastive Learning, ECCV 2022 (L_DC).
    """
    return without_itself(widen(rectangle.similarity) / temperature, rectangle.pairs)
