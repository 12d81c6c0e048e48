"""R-precision."""

from torch import Tensor

from pullpush.evaluation.metrics.base import Standing, metric, positives, precision_within

__all__ = ["r_precision"]


@metric("r_precision", "R-precision")
def r_precision(standing: Standing) -> Tensor:
    """The share of positives among the R nearest, R being the query's number of positives.

    The query itself is not counted (Musgrave et al. 2020, arXiv 2003.08505, 3.2).

    Returns float64 `[queries]`, NaN where a query has no positive.
    """
    return precision_within(standing, positives(standing))
