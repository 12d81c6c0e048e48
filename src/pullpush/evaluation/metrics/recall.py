"""Recall@k."""

import torch
from torch import Tensor

from pullpush.evaluation.metrics.base import Standing, best, metric

__all__ = ["recall_at_k"]


@metric("recall@k", nearest_alone=True)
def recall_at_k(standing: Standing, k: int) -> Tensor:
    """The share of queries with a positive among the k nearest references.

    Of one query it is the chance that at least one positive is among them.

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
    g, t, m, any_ = best(standing)
    drawn = k - g
    misses = t - m
    x = torch.minimum(drawn, misses).clamp(min=0)
    # log C(t - m, x) - log C(t, x); exact zero or one outside the tied places, so lgamma decides only inside them
    log_miss = _log_factorial(misses) - _log_factorial(misses - x) - _log_factorial(t) + _log_factorial(t - x)
    hit = torch.where(drawn > misses, torch.ones_like(log_miss), -torch.expm1(log_miss))
    hit = torch.where(drawn > 0, hit, torch.zeros_like(hit))
    return torch.where(any_, hit, torch.nan)


def _log_factorial(n: Tensor) -> Tensor:
    return torch.lgamma(n.double().clamp(min=0) + 1)
