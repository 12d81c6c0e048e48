"""Softmax of each positive among the negatives: NT-Xent, its decoupled form, N-pair."""

from torch import Tensor

from pullpush.bounds import Positive
from pullpush.maths.losses.base import AnchorLoss, against_negatives
from pullpush.maths.pairs import Pairs
from pullpush.maths.reduce import any_of, count_of, logsumexp_of, sum_of, widen

__all__ = ["decoupled_contrastive", "nt_xent"]


def nt_xent(similarity: Tensor, pairs: Pairs, *, temperature: Positive = 0.1) -> AnchorLoss:
    r"""Normalised temperature-scaled cross entropy, also called InfoNCE: each positive against all negatives.

    $$L_{ip} = -\log \frac{e^{s_{ip}/\tau}}{e^{s_{ip}/\tau} + \sum_n e^{s_{in}/\tau}}$$

    averaged over positive pairs. Other positives of the anchor are not in the denominator.

    Args:
        similarity: [anchors, references].
        pairs: masks of the same shape.
        temperature: tau, in units of the similarity. 0.1 is the paper's best.

    Returns:
        AnchorLoss [anchors], counting positive pairs.

    Source: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020;
    van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018.
    """
    logits = widen(similarity) / temperature
    return against_negatives(logits, logits, pairs)


def decoupled_contrastive(similarity: Tensor, pairs: Pairs, *, temperature: Positive = 0.1) -> AnchorLoss:
    r"""NT-Xent without the positive in the denominator, which lets small batches learn.

    $$L_{ip} = -\frac{s_{ip}}{\tau} + \log \sum_n e^{s_{in}/\tau}$$

    averaged over positive pairs of anchors that have a negative. Not bounded below by 0.

    Args:
        similarity: [anchors, references].
        pairs: masks of the same shape.
        temperature: tau, in units of the similarity. 0.1 is the paper's.

    Returns:
        AnchorLoss [anchors], counting positive pairs.

    Source: Yeh et al., Decoupled Contrastive Learning, ECCV 2022 (L_DC).
    """
    logits = widen(similarity) / temperature
    some = any_of(pairs.negative)
    count = count_of(pairs.positive, dtype=logits.dtype) * some
    # An anchor without negatives has the lowest number here; times 0 it is finite.
    total = count * logsumexp_of(logits, pairs.negative) - sum_of(logits, pairs.positive) * some
    return AnchorLoss(total, count)
