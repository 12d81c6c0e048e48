"""Intervals over classes against loops, against SciPy, and their laws."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from pullpush.errors import UserError
from pullpush.evaluation.bootstrap import FEW, class_draws, mean_interval


def queries(classes=40, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), generator.integers(1, 9, classes))
    hard = generator.uniform(0, 1, classes)[labels]
    return (generator.uniform(size=len(labels)) < hard).astype(float), labels


def test_equals_a_loop_over_draws_and_queries():
    values, labels = queries()
    generator, means = np.random.default_rng(7), []
    for _ in range(50):
        drawn = generator.integers(40, size=40)
        chosen = [float(value) for label in drawn for value in values[labels == label]]
        means.append(math.fsum(chosen) / len(chosen))
    low, high = np.quantile(means, [0.025, 0.975])
    found = mean_interval(values, [f"class {label:02}" for label in labels], repeats=50, seed=7)
    np.testing.assert_allclose(found, [values.mean(), low, high], rtol=1e-12)


def test_is_about_scipys_of_clusters():
    values, labels = queries(seed=1)
    sums, counts = np.bincount(labels, values), np.bincount(labels)
    theirs = bootstrap(
        (sums, counts), lambda s, n, axis: s.sum(axis) / n.sum(axis), paired=True, method="percentile", rng=0
    ).confidence_interval
    np.testing.assert_allclose(mean_interval(values, labels, repeats=5000)[1:], theirs, atol=0.005)


def test_a_difference_is_paired():
    one, labels = queries(seed=2)
    other = np.where(np.random.default_rng(3).uniform(size=len(one)) < 0.1, 1 - one, one)
    paired, alone = mean_interval(other - one, labels), mean_interval(one, labels)
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)
    assert mean_interval(one - one, labels) == (0, 0, 0)
    assert not mean_interval(one - one, labels).excludes_zero
    low, high = mean_interval(one - other, labels)[1:]
    np.testing.assert_allclose((-high, -low), paired[1:], atol=1e-12)


def test_queries_of_one_class_count_as_one_draw():
    """Each query eight times: no more is known."""
    values, labels = queries(seed=4)
    np.testing.assert_allclose(mean_interval(np.repeat(values, 8), np.repeat(labels, 8)), mean_interval(values, labels))


def test_draws_are_seeded_and_of_as_many_classes():
    draws = list(class_draws(9, repeats=4, seed=1))
    assert [int(each.sum()) for each in draws] == [9] * 4
    np.testing.assert_array_equal(draws, list(class_draws(9, repeats=4, seed=1)))


def test_few_classes_have_no_interval():
    mean, low, high = mean_interval([1.0, 0.0] * (FEW - 1), np.repeat(np.arange(FEW - 1), 2))
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(
    ("values", "labels", "said"),
    [([], [], "values are"), ([1.0, 2.0], [1], "labels"), ([1.0, np.nan], [1, 2], "not finite")],
)
def test_bad_input(values, labels, said):
    with pytest.raises(UserError, match=said):
        mean_interval(values, labels)
