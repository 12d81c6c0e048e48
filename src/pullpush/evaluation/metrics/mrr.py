"""Mean reciprocal rank."""

import torch
from torch import Tensor

from pullpush.evaluation.metrics.base import Standing, best, metric

__all__ = ["mrr"]


@metric("mrr", "MRR", nearest_alone=True)
def mrr(standing: Standing) -> Tensor:
    """The mean over queries of 1 over the rank of the nearest positive.

    With g references above the best positive, t tied with it and m positives among the tied, the first positive of the
    tied stands at place j of them with chance m/(t - j + 1) times that of only negatives before it, so

        E[1/rank] = sum_{j=1..t-m+1} 1/(g + j) m/(t - j + 1) prod_{i<j} (t - m - i + 1)/(t - i + 1)

    summed once for all queries that have the same three counts.

    Args:
        standing: positives of each query.

    Returns:
        float64 `[queries]`, NaN where a query has no positive.

    Source: Voorhees, The TREC-8 Question Answering Track Report, TREC 1999.
    """
    *counts, any_ = best(standing)
    alike, query = torch.stack(counts, 1).unique(dim=0, return_inverse=True)
    g, t, m = (count[:, None] for count in alike.double().T)
    before = torch.arange(int((t - m).max()) + 1 if len(alike) else 1)  # negatives of the tied that stand before it
    miss = (t - m - before).clamp(min=0) / (t - before).clamp(min=1)
    reached = torch.cat([torch.ones_like(g), miss[:, :-1].cumprod(1)], 1)
    expected = (reached * (1 - miss) / (g + 1 + before)).sum(1)
    return torch.where(any_, expected[query], torch.nan)
