"""MAP@R."""

import torch
from torch import Tensor

from pullpush.evaluation.metrics.base import Standing, metric, positives

__all__ = ["map_at_r"]


@metric("map@r", "MAP@R")
def map_at_r(standing: Standing) -> Tensor:
    """The mean over places 1 to R of the precision at each place that holds a positive, 0 elsewhere.

    Mean average precision at R (Musgrave et al. 2020, arXiv 2003.08505, equation 4):

        MAP@R = 1/R sum_{i=1..R} P(i) rel(i),   P(i) = precision at i, rel(i) = 1 where the i-th nearest is a positive

    R is the number of positives without the query, and the sum is always divided by R: perfect retrieval scores 1.0 and
    nothing else does. A tied positive stands at place g + j, j = 1..t, with chance 1/t each, and then finds on average
    (j - 1)(m - 1)/(t - 1) of the tied positives above it; with h positives above the tie,

        E = 1/R sum_positives 1/t sum_{j=1..min(t, R-g)} (1 + h + (j - 1) b) / (g + j),   b = (m - 1)/(t - 1)
          = 1/R sum_positives 1/t (b J + (1 + h - b (1 + g)) (H(g + J) - H(g))),          J = min(t, R - g)

    where H is the harmonic number.

    Returns:
        float64 `[queries]`, NaN where a query has no positive.
    """
    r = positives(standing)[:, None]
    g, t, h, m = (part.double() for part in standing[:4])
    # places within R that this positive's tie takes
    j = torch.minimum(t, r - g).clamp(min=0)
    b = (m - 1) / (t - 1).clamp(min=1)
    top = int(r.max()) if r.numel() else 0
    harmonic = torch.cat([g.new_zeros(1), (1 / torch.arange(1, top + 1, dtype=g.dtype, device=g.device)).cumsum(0)])
    above = g.clamp(max=top).long()
    span = harmonic[(above + j.long()).clamp(max=top)] - harmonic[above]
    tied = (b * j + (1 + h - b * (1 + g)) * span) / t.clamp(min=1)
    # alone, without the rounding of a difference of harmonic numbers: a perfect ranking is 1.0 to the last bit
    alone = torch.where(j > 0, (1 + h) / (1 + g), torch.zeros_like(g))
    each = torch.where(t > 1, tied, alone)
    total = torch.where(standing.exists, each, torch.zeros_like(each)).sum(dim=1)
    return torch.where(r[:, 0] > 0, total / r[:, 0].clamp(min=1), torch.nan)
