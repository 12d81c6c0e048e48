"""Supervised contrastive loss."""

from typing import Literal, get_args

from torch import Tensor

from pullpush.bounds import Positive
from pullpush.maths.losses.base import AnchorLoss, check_choice
from pullpush.maths.pairs import Pairs
from pullpush.maths.reduce import any_of, count_of, largest_exponent, logsumexp_of, mean_of, widen

__all__ = ["sup_con"]

Positives = Literal["out", "in"]


def sup_con(
    similarity: Tensor, pairs: Pairs, *, temperature: Positive = 0.1, positives: Positives = "out",
    similarity_name: str = "",
) -> AnchorLoss:  # fmt: skip
    r"""Softmax over all references, averaged over the positives outside or inside of the logarithm.

    $$L_i^{out} = -\frac{1}{|P_i|} \sum_p \log \frac{e^{s_{ip}/\tau}}{\sum_a e^{s_{ia}/\tau}} \qquad
      L_i^{in} = -\log \frac{1}{|P_i|} \sum_p \frac{e^{s_{ip}/\tau}}{\sum_a e^{s_{ia}/\tau}}$$

    averaged over anchors that have a positive; a runs over positives and negatives.

    Args:
        similarity: [anchors, references].
        pairs: masks of the same shape.
        temperature: tau, in units of the similarity. 0.1 is the paper's.
        positives: "out" is the paper's choice; "in" gives the nearest positives most of the gradient.
        similarity_name: a cosine bounds the exponents; given by the criterion.

    Returns:
        AnchorLoss [anchors].

    Raises:
        UserError: unknown choice of positives.

    Source: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020 (L_out and L_in).
    """
    check_choice("positives", positives, get_args(Positives))
    logits = widen(similarity) / temperature
    some = any_of(pairs.positive)
    everything = logsumexp_of(
        logits, pairs.positive | pairs.negative, bound=largest_exponent(similarity_name, 1 / temperature)
    )
    if positives == "out":
        kept = mean_of(logits, pairs.positive)
    else:
        number = count_of(pairs.positive, dtype=logits.dtype).clamp(min=1)
        kept = logsumexp_of(logits, pairs.positive) - number.log()
    return AnchorLoss((everything - kept).where(some, 0.0), some.to(logits.dtype))
