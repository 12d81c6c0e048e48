r"""Intervals of error rates over the choice of classes, from counts by class.

In a resample class $c$ is drawn $w_c$ times, $\sum_c w_c = C$. With $A_c(t)$ the pairs of class $c$ and another that
reach a threshold, and $F(t) = \frac12 \sum_c A_c(t)$, those of the resample are, but for the product
$(w_c - 1)(w_d - 1)$, $\sum_c w_c A_c(t) - F(t)$: the projection of a U-statistic (Hoeffding 1948; Arcones and Giné,
On the Bootstrap of U and V Statistics, Ann. Stat. 1992).
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pullpush.evaluation.bootstrap import FEW, class_draws
from pullpush.evaluation.knn import one_thread_a_product
from pullpush.evaluation.streaming import Counts

__all__ = ["intervals"]

AT_ONCE = 32

Floats = NDArray[np.float64]


def intervals(
    counts: Counts,
    metrics: Mapping[str, float],
    fars: Mapping[str, float],
    confidence: float,
    replicates: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """The low and the high end of `eer` and of the true accept rate at each of `fars`, by their names; NaN of fewer
    classes than `FEW`.

    Between levels rates are linear (over the logarithm of the false accept rate). What that gives of the classes as
    they are differs a little from the exact metric: all are shifted by that difference.
    """
    if not replicates or len(counts.class_same) < FEW:
        return {name: (np.nan, np.nan) for name in metrics}
    classes = len(counts.class_same)
    draws = class_draws(classes, replicates, seed)
    with one_thread_a_product():  # for such small products threads cost more than they save
        parts = [_read(*_curves(counts, np.ones((1, classes))), fars)]
        while drawn := list(islice(draws, AT_ONCE)):
            parts.append(_read(*_curves(counts, np.stack(drawn)), fars))
    found = {}
    for name, value in metrics.items():
        whole, *_ = values = np.concatenate([part[name] for part in parts])
        tail = 50 * (1 - confidence)
        low, high = np.nanpercentile(values[1:], [tail, 100 - tail]) + (value - whole)
        found[name] = (float(np.clip(low, 0, value)), float(np.clip(high, value, 1)))
    return found


def _curves(counts: Counts, weights: NDArray[Any]) -> tuple[Floats, Floats]:
    """FAR and TAR at the levels, from a threshold that all reach to one that none does, `[resamples, levels + 2]`."""
    weights = np.asarray(weights, np.float64)
    reached = weights @ counts.class_different - counts.class_different.sum(axis=0) / 2
    same = weights @ counts.class_same
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample of classes with one item each
        far, tar = (np.maximum(each, 0) / each[:, :1] for each in (reached, same))
    ends = np.zeros_like(far[:, :1])
    return (np.minimum.accumulate(np.hstack([each, ends]), axis=1) for each in (far, tar))  # type: ignore[return-value]


def _read(far: Floats, tar: Floats, fars: Mapping[str, float]) -> dict[str, Floats]:
    below = np.argmax(far <= 1 - tar, axis=1).clip(min=1)
    rows = np.arange(len(far))
    (f0, t0), (f1, t1) = ((far[rows, at], tar[rows, at]) for at in (below - 1, below))
    before, after = f0 + t0 - 1, f1 + t1 - 1
    found = {"eer": f0 + before / np.maximum(before - after, 1e-300) * (f1 - f0)}
    depth = -np.log(np.maximum(far, 1e-12))
    for name, rate in fars.items():
        found[name] = np.array([np.interp(-np.log(rate), *each) for each in zip(depth, tar, strict=True)])
    return found
