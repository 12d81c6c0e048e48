"""Contrastive loss with hard negatives drawn more often."""

from typing import Annotated

import torch

from pullpush.bounds import Bound, Positive
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import any_of, count_of, logsumexp_of, sum_of, widen

__all__ = ["hard_negative_contrastive"]

Concentration = Annotated[float, Bound(0, 100)]


@loss()
def hard_negative_contrastive(
    rectangle: Rectangle, *, temperature: Positive = 0.5, concentration: Concentration = 1.0
) -> AnchorLoss:
    r"""NT-Xent whose negatives count as if they were drawn the more often, the closer they are.

    $$L_{ip} = -\log \frac{e^{s_{ip}/\tau}}{e^{s_{ip}/\tau} + \sum_n w_{in} e^{s_{in}/\tau}} \qquad
      w_{in} = \frac{e^{\beta s_{in}/\tau}}{\frac{1}{|N_i|} \sum_m e^{\beta s_{im}/\tau}}$$

    averaged over positive pairs. The weights have a mean of 1, and a gradient as in the authors' code; with beta = 0
    this is NT-Xent. Labels say which pairs are negative, so the paper's correction for false negatives is left out (its
    tau+ is 0).

    Args:
        rectangle: [anchors, references].
        temperature: tau, in units of the similarity. 0.5 is the paper's.
        concentration: beta, how much more often close negatives are drawn. 1 is the default of the authors' code.

    Returns:
        AnchorLoss [anchors], counting positive pairs.

    Source: Robinson et al., Contrastive Learning with Hard Negative Samples, ICLR 2021.
    """
    logits, pairs = widen(rectangle.similarity) / temperature, rectangle.pairs
    number = count_of(pairs.negative, dtype=logits.dtype).clamp(min=1)
    drawn = logsumexp_of((1 + concentration) * logits, pairs.negative)
    mean = logsumexp_of(concentration * logits, pairs.negative) - number.log()
    # Without negatives both are the lowest number, but their difference is not.
    negatives = torch.where(any_of(pairs.negative), drawn - mean, drawn)[:, None]
    each = torch.nn.functional.softplus(negatives - logits)
    return AnchorLoss(sum_of(each, pairs.positive), count_of(pairs.positive, dtype=each.dtype))
