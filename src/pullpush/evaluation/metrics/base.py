"""What a metric is: a function of where the positives of a query stand among its references.

Ties never help. References whose similarities to the query are tied stand in random order, and every metric is its
exact expected value under that order. So nothing depends on the order in which items are stored, and a collapsed model,
where everything is tied, scores exactly what a random ranking scores on average. No order is drawn: each expectation
has a closed form in four counts a positive, which `Standing` holds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Metric", "Standing", "best", "first_rank", "metric", "positives", "precision_within"]


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


@dataclass(frozen=True)
class Metric:
    """A metric, called as its function is.

    Attributes:
        name: in `Evaluation.metrics`, metrics.json and the logs; ends in `@k` where the function takes a `k`.
        title: in tables and figures.
        function: `function(standing)`, or `function(standing, k)`, to float64 `[queries]`, NaN without a positive.
        higher_is_better: its direction.
        nearest_alone: it asks for the nearest positive only, and so is given between images and texts too.
        of_clusters: it is a function of embeddings and labels instead, one number for all items.
    """

    name: str
    title: str
    function: Callable[..., Any]
    higher_is_better: bool = True
    nearest_alone: bool = False
    of_clusters: bool = False

    @property
    def takes_k(self) -> bool:
        """Whether it is a family, a metric for each k."""
        return self.name.endswith("@k")

    @property
    def meaning(self) -> str:
        """What it measures: the first sentence of the function's docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)


def metric(name: str, title: str = "", **about: bool) -> Callable[[Callable[..., Any]], Metric]:
    """Makes a function a metric: `@metric("map@r", "MAP@R")`.

    The first line of the function's docstring is its meaning; `about` is what else `Metric` says of it.
    """
    return lambda function: Metric(name, title or name, function, **about)


def positives(standing: Standing) -> Tensor:
    """R of each query: how many positives it has, itself not counted. int64 `[queries]`."""
    return standing.exists.sum(dim=1)


def first_rank(standing: Standing) -> Tensor:
    """Rank of the nearest positive, counted from 1: 1 + g + (t - m) / (m + 1), its expected place among the tied.

    Returns float64 `[queries]`, NaN where a query has no positive. For median and mean rank take the median and the
    mean over queries.
    """
    g, t, m, any_ = best(standing)
    return torch.where(any_, 1 + g + (t - m) / (m + 1).double(), torch.nan)


def best(standing: Standing) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts of the best positive (above, tied, positives tied) and whether there is one."""
    queries, width = standing.exists.shape
    if width == 0:
        empty = standing.above.new_zeros(queries)
        return empty, empty, empty, empty.bool()
    return standing.above[:, 0], standing.tied[:, 0], standing.positives_tied[:, 0], standing.exists[:, 0]


def precision_within(standing: Standing, k: Tensor | int) -> Tensor:
    """Share of positives among the k nearest references: sum over positives of P(it is among the k) / k.

    P = (k - g) / t clamped to [0, 1]; k is a number, or one a query `[queries]`. Returns float64 `[queries]`, NaN where
    a query has no positive.
    """
    k = torch.as_tensor(k).expand(len(standing.above))[:, None]
    share = ((k - standing.above) / standing.tied.clamp(min=1).double()).clamp(0, 1)
    total = torch.where(standing.exists, share, torch.zeros_like(share)).sum(dim=1)
    return torch.where(standing.exists.any(dim=1), total / k[:, 0].clamp(min=1), torch.nan)
