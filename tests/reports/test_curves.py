"""Smoothing never invents anything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpush.reports.curves import fitting_window, smooth

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)
windows = st.integers(1, 300)


@given(st.floats(-1e9, 1e9), st.integers(1, 300), windows)
def test_a_constant_stays_that_constant(value: float, length: int, window: int) -> None:
    np.testing.assert_array_equal(smooth([value] * length, window), [value] * length)


@given(values, windows)
def test_length_is_kept_and_no_value_leaves_the_data(data: list[float], window: int) -> None:
    out = smooth(data, window)
    assert out.shape == (len(data),)
    assert out.min() >= min(data)
    assert out.max() <= max(data)


@given(values, windows)
def test_it_is_the_mean_over_the_window_of_the_docstring(data: list[float], window: int) -> None:
    n = len(data)
    for i, value in enumerate(smooth(data, window)):
        h = max(min(window // 2, i, n - 1 - i), window // 8)
        assert value == pytest.approx(np.mean(data[max(i - h, 0) : i + h + 1]), abs=1e-6, rel=1e-9)


@given(values, windows)
def test_both_ends_are_treated_alike(data: list[float], window: int) -> None:
    np.testing.assert_allclose(smooth(data[::-1], window)[::-1], smooth(data, window), atol=1e-6)


def test_a_straight_line_stays_straight_and_its_ends_are_near() -> None:
    line = np.linspace(3, -2, 400)
    out = smooth(line, 50)
    np.testing.assert_allclose(out[6:-6], line[6:-6])
    slope = line[0] - line[1]
    assert np.abs(out - line).max() <= 3.1 * slope  # half of window // 8; zero padding would be off by half the level


def test_missing_values_are_left_out_of_the_mean() -> None:
    data = [1.0, np.nan, 3.0, np.inf, 5.0]
    np.testing.assert_allclose(smooth(data, 3), [1, 2, 3, 4, 5])
    assert np.isnan(smooth([np.nan, np.nan], 3)).all()
    out = smooth([1.0] * 3 + [np.nan] * 9 + [2.0] * 3, 3)
    assert np.isnan(out[5:10]).all()
    assert out[0] == 1
    assert out[-1] == 2


def test_a_spike_costs_no_digits_elsewhere() -> None:
    data = np.full(500, 1e-3)
    data[100] = 1e6
    np.testing.assert_allclose(smooth(data, 10)[200:], 1e-3, rtol=1e-6)


def test_window_one_changes_nothing_and_bad_input_is_refused() -> None:
    data = np.random.default_rng(0).normal(size=30)
    np.testing.assert_allclose(smooth(data, 1), data)
    assert fitting_window(1000) == 50
    assert fitting_window(100) == 10
    assert fitting_window(3) == 1
    with pytest.raises(ValueError, match="window"):
        smooth(data, 0)
    with pytest.raises(ValueError, match="one-dimensional"):
        smooth(data.reshape(5, 6))
