"""Intervals of means over queries, by bootstrap over classes: queries of one class are not independent."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pullpush.errors import UserError

__all__ = ["FEW", "REPEATS", "Interval", "class_draws", "mean_interval"]

REPEATS = 1000
FEW = 5
"""Of fewer classes than these a bootstrap says nothing."""


class Interval(NamedTuple):
    """A mean with the ends of its 95% interval, which are NaN where there are too few classes for one."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of 0."""
        return self.low > 0 or self.high < 0


def class_draws(classes: int, repeats: int = REPEATS, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """How often each class is drawn, `[classes]`, when as many are drawn as there are, with replacement; a draw a
    repeat."""
    generator = np.random.default_rng(seed)
    for _ in range(repeats):
        yield np.bincount(generator.integers(classes, size=classes), minlength=classes)


def mean_interval(values: ArrayLike, labels: ArrayLike, *, repeats: int = REPEATS, seed: int = 0) -> Interval:
    r"""The mean over queries with its 95% percentile interval over the choice of classes.

    With $s_c$ the sum of the values of class $c$ and $n_c$ their number, a repeat draws classes $c_1 \dots c_C$ with
    replacement and gives $\sum_i s_{c_i} / \sum_i n_{c_i}$; the interval reaches from the 2.5% to the 97.5% quantile.
    Paired where `values` are differences, query by query, of two models: a class that is hard for both moves both
    alike, and is in the interval of neither. Of equal models all of it is 0.

    Args:
        values: [n], of the queries that count; computed in float64.
        labels: [n], any values that name the class of each.
        repeats: draws of classes.
        seed: of the draws.

    Returns:
        The mean and the ends; NaN for the ends with fewer than `FEW` classes.

    Raises:
        UserError: no values, a length that differs, or values that are not finite.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; over clusters: Davison and
    Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers) or np.shape(labels) != numbers.shape:
        raise UserError(
            f"an interval needs a value and a label for each query: values are {list(numbers.shape)}, labels "
            f"{list(np.shape(labels))}"
        )
    if not np.isfinite(numbers).all():
        raise UserError("values of an interval are not finite: leave out queries without a positive")
    _, of_class = np.unique(np.asarray(labels), return_inverse=True)
    sums, counts = np.bincount(of_class, numbers), np.bincount(of_class)
    mean = float(sums.sum() / counts.sum())
    if len(counts) < FEW:
        return Interval(mean, np.nan, np.nan)
    means = [float(drawn @ sums / (drawn @ counts)) for drawn in class_draws(len(counts), repeats, seed)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(mean, float(low), float(high))
