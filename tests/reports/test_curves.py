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
def test_it_is_the_mean_in_the_middle_and_a_line_at_both_ends(data: list[float], window: int) -> None:
    n = len(data)
    h = min(window // 2, (n - 1) // 2)
    out = smooth(data, window)
    for i in range(h, n - h):
        assert out[i] == pytest.approx(np.mean(data[i - h : i + h + 1]), abs=1e-6, rel=1e-9)
    if h:
        line = np.polynomial.Polynomial.fit(np.arange(2 * h + 1), data[: 2 * h + 1], 1)
        ends = np.clip(line(np.arange(h)), min(data), max(data))
        np.testing.assert_allclose(out[:h], ends, atol=1e-5, rtol=1e-7)


@given(values, windows)
def test_both_ends_are_treated_alike(data: list[float], window: int) -> None:
    np.testing.assert_allclose(smooth(data[::-1], window)[::-1], smooth(data, window), atol=1e-6)


def test_a_straight_line_stays_that_line() -> None:
    line = np.linspace(3, -2, 400)
    np.testing.assert_allclose(smooth(line, 50), line)
    np.testing.assert_allclose(smooth(line[:7], 50), line[:7])


@pytest.mark.parametrize("window", [10, 50])
def test_no_artefact_at_the_ends_of_noise_around_a_line(window: int) -> None:
    """In units of the noise: no bias anywhere, at the ends twice the deviation of the middle (a line through w values
    has 4 / w of their variance at its end, their mean 1 / w), and no jump from one value to the next."""
    rng = np.random.default_rng(0)
    line = np.linspace(5, 1, 400)
    found = np.array([smooth(line + rng.normal(size=400), window) for _ in range(600)]) - line
    w = 2 * (window // 2) + 1
    deviation = found.std(0)
    assert np.abs(found.mean(0)).max() < 4.5 * deviation.max() / 600**0.5
    np.testing.assert_allclose(deviation[[0, -1]], 2 / w**0.5, rtol=0.1)
    assert deviation.max() < 2.2 * deviation[w:-w].mean()
    jumps = np.abs(np.diff(found))
    assert jumps[:, : w // 2].mean() < 1.1 * jumps[:, w:-w].mean()


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
