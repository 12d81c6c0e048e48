"""Retrieval metrics from where the positives of a query stand among its references.

Ties never help. References whose similarities to the query are tied stand in random order, and every metric is its
exact expected value under that order. So nothing depends on the order in which items are stored, and a collapsed model,
where everything is tied, scores exactly what a random ranking scores on average. No order is drawn: each expectation
has a closed form in four counts a positive, which `Standing` holds.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Standing(NamedTuple):
    """Where each positive of each query stands: four counts, the best positive in column 0.

    Each field is `[queries, positives]`; rows with fewer positives than columns are padded at the end, where `exists`
    is false. The query itself is counted nowhere.
    """

    above: Tensor
    """References that stand above this positive (int64)."""
    tied: Tensor
    """References tied with it, itself included (int64, at least 1 where it exists)."""
    positives_above: Tensor
    """Positives among `above`."""
    positives_tied: Tensor
    """Positives among `tied`, itself included."""
    exists: Tensor
    """Bool: false in the padding."""


def positives(standing: Standing) -> Tensor:
    """R of each query: how many positives it has, itself not counted. int64 `[queries]`."""
    return standing.exists.sum(dim=1)


def recall_at_k(standing: Standing, k: int) -> Tensor:
    """Chance that at least one positive is among the k nearest references.

    With g references above the best positive, t tied with it and m positives among the tied,

        recall@k = 0                                   for k <= g
                 = 1 - C(t - m, k - g) / C(t, k - g)   for g < k <= g + t - m
                 = 1                                   for k > g + t - m

    which is 0 or 1 where nothing is tied (Musgrave et al. 2020, arXiv 2003.08505, call it precision@1 for k = 1).

    Args:
        standing: positives of each query.
        k: at least 1.

    Returns:
        float64 `[queries]`, NaN where a query has no positive.
    """
    g, t, m, any_ = _best(standing)
    drawn = k - g
    misses = t - m
    x = torch.minimum(drawn, misses).clamp(min=0)
    # log C(t - m, x) - log C(t, x); exact zero or one outside the tied places, so lgamma decides only inside them
    log_miss = _log_factorial(misses) - _log_factorial(misses - x) - _log_factorial(t) + _log_factorial(t - x)
    hit = torch.where(drawn > misses, torch.ones_like(log_miss), -torch.expm1(log_miss))
    hit = torch.where(drawn > 0, hit, torch.zeros_like(hit))
    return torch.where(any_, hit, torch.nan)


def precision_at_k(standing: Standing, k: int) -> Tensor:
    """Share of positives among the k nearest references: sum over positives of P(it is among the k) / k.

    P = (k - g) / t clamped to [0, 1]. Returns float64 `[queries]`, NaN where a query has no positive.
    """
    return _mean_within(standing, standing.above.new_full((len(standing.above), 1), k))


def r_precision(standing: Standing) -> Tensor:
    """Precision at R, where R is the number of positives of the query, itself not counted (arXiv 2003.08505, 3.2).

    Returns float64 `[queries]`, NaN where a query has no positive.
    """
    return _mean_within(standing, positives(standing)[:, None])


def map_at_r(standing: Standing) -> Tensor:
    """Mean average precision at R (Musgrave et al. 2020, arXiv 2003.08505, equation 4).

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


def first_rank(standing: Standing) -> Tensor:
    """Rank of the nearest positive, counted from 1: 1 + g + (t - m) / (m + 1), its expected place among the tied.

    Returns float64 `[queries]`, NaN where a query has no positive. For median and mean rank take the median and the
    mean over queries.
    """
    g, t, m, any_ = _best(standing)
    return torch.where(any_, 1 + g + (t - m) / (m + 1).double(), torch.nan)


def _best(standing: Standing) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts of the best positive (above, tied, positives tied) and whether there is one."""
    queries, width = standing.exists.shape
    if width == 0:
        empty = standing.above.new_zeros(queries)
        return empty, empty, empty, empty.bool()
    return standing.above[:, 0], standing.tied[:, 0], standing.positives_tied[:, 0], standing.exists[:, 0]


def _mean_within(standing: Standing, k: Tensor) -> Tensor:
    """Expected positives among the first k places, divided by k; k is `[queries, 1]`."""
    share = ((k - standing.above) / standing.tied.clamp(min=1).double()).clamp(0, 1)
    total = torch.where(standing.exists, share, torch.zeros_like(share)).sum(dim=1)
    return torch.where(standing.exists.any(dim=1), total / k[:, 0].clamp(min=1), torch.nan)


def _log_factorial(n: Tensor) -> Tensor:
    return torch.lgamma(n.double().clamp(min=0) + 1)
