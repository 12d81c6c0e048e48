"""N-pair loss."""

from pullpush.bounds import Positive
from pullpush.maths.choice import loss
from pullpush.maths.losses.base import against_negatives
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import count_of, widen
from pullpush.maths.triplets import above

__all__ = ["n_pair"]


@loss(similarity="dot")
def n_pair(rectangle: Rectangle, *, temperature: Positive = 0.1, one_vs_one: bool = False) -> AnchorLoss:
    r"""One positive against the negatives of all other classes, at once (multi-class) or one by one.

    $$L_{ip} = \log\Big(1 + \sum_n e^{(s_{in} - s_{ip})/\tau}\Big) \qquad
      L_{ip}^{ovo} = \sum_n \log\big(1 + e^{(s_{in} - s_{ip})/\tau}\big)$$

    averaged over positive pairs, so several samples a class are several pairs. The paper's tuples, in which each class
    has one anchor and one reference, are `criterion(anchors, labels, references=positives, reference_labels=labels)`.

    Args:
        rectangle: [anchors, references], the dot product of the embeddings as they are.
        temperature: tau, in units of the similarity. 1 is the paper's, for embeddings of free length with the
            regulariser `embedding_norm`. On normalised embeddings that can't fall below
            ln(1 + (N - 1) e^(-N / (N - 1))) for N classes, 3.86 at 128; 0.1, our choice, can.
        one_vs_one: takes the second formula.

    Returns:
        AnchorLoss [anchors], counting positive pairs.

    Source: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NeurIPS 2016
    (N-pair-mc and N-pair-ovo).
    """
    pairs = rectangle.pairs
    if one_vs_one:
        each = above(rectangle.similarity, pairs.positive, pairs.negative, temperature, "softplus")
        return AnchorLoss(each.sum(1), count_of(pairs.positive, dtype=each.dtype))
    return against_negatives(widen(rectangle.similarity), pairs, 1 / temperature)
