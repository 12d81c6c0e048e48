"""Supervised contrastive loss."""

from typing import Literal

from pullpush.bounds import Positive
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import any_of, count_of, largest_exponent, logsumexp_of, mean_of, widen

__all__ = ["sup_con"]

Positives = Literal["out", "in"]


@loss()
def sup_con(rectangle: Rectangle, *, temperature: Positive = 0.1, positives: Positives = "out") -> AnchorLoss:
    r"""Softmax over all references, averaged over the positives outside or inside of the logarithm.

    $$L_i^{out} = -\frac{1}{|P_i|} \sum_p \log \frac{e^{s_{ip}/\tau}}{\sum_a e^{s_{ia}/\tau}} \qquad
      L_i^{in} = -\log \frac{1}{|P_i|} \sum_p \frac{e^{s_{ip}/\tau}}{\sum_a e^{s_{ia}/\tau}}$$

    averaged over anchors that have a positive; a runs over positives and negatives.

    Args:
        rectangle: [anchors, references].
        temperature: tau, in units of the similarity. 0.1 is the paper's.
        positives: "out" is the paper's choice; "in" gives the nearest positives most of the gradient.

    Returns:
        AnchorLoss [anchors].

    Source: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020 (L_out and L_in).
    """
    pairs = rectangle.pairs
    logits = widen(rectangle.similarity) / temperature
    some = any_of(pairs.positive)
    everything = logsumexp_of(
        logits, pairs.positive | pairs.negative, bound=largest_exponent(rectangle.similarity_name, 1 / temperature)
    )
    if positives == "out":
        kept = mean_of(logits, pairs.positive)
    else:
        number = count_of(pairs.positive, dtype=logits.dtype).clamp(min=1)
        kept = logsumexp_of(logits, pairs.positive) - number.log()
    return AnchorLoss((everything - kept).where(some, 0.0), some.to(logits.dtype))
