"""What is said of repeats over seeds, and of paired differences."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpush.studies.spread import differences, meaning, spread, where


def test_from_four_on_the_interval_is_students() -> None:
    found = spread([1.0, 2.0, 3.0, 4.0])
    # t(0.975, 3) = 3.182446, s = sqrt(5 / 3)
    half = 3.182446 * (5 / 3) ** 0.5 / 2
    np.testing.assert_allclose(found[:3], [2.5, 2.5 - half, 2.5 + half], rtol=1e-6)
    assert found.is_interval
    assert found.formatted(".1f") == "2.5 (0.4 to 4.6)"


def test_below_four_the_runs_and_their_range_are_shown() -> None:
    assert spread([100.0, 120.0, 140.0])[:3] == (120.0, 100.0, 140.0)
    assert spread([100.0, 140.0]).formatted(".0f") == "120 (100, 140)"
    assert spread([0.5]).formatted() == "0.500"
    assert spread([0.5, np.nan]).formatted() == "0.500"  # a run that has no such number is no repeat
    assert spread([]).formatted() == "–"
    assert not spread([1.0, 2.0, 3.0]).is_interval


def test_what_is_rounded_to_zero_has_no_sign() -> None:
    assert spread([-0.0004, 0.0002, -0.012], -np.inf).formatted("+.3f") == "-0.004 (0.000, 0.000, -0.012)"
    assert spread([-0.0004]).formatted("+.3f") == "0.000"
    assert spread([-0.0006]).formatted("+.3f") == "-0.001"


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
def test_times_counts_and_fractions_stay_in_their_range(values: list[float]) -> None:
    found = spread(values)
    assert 0 <= found.low <= found.mean * (1 + 1e-9) + 1e-9
    assert "-" not in found.formatted(".0f")
    share = spread(np.array(values) / 1e6, 0, 1)
    assert 0 <= share.low <= share.high <= 1


def test_differences_are_paired_by_seed() -> None:
    """The seeds differ by 0.3 and more, the settings by 0.01 to 0.04; a failed run takes its seed out of the pair."""
    rows = [("a", s, 0.3 * s) for s in range(5)] + [("b", s, 0.3 * s + 0.01 * s) for s in range(1, 5)]
    table = pd.DataFrame(rows, columns=["loss", "seed", "recall@1"])
    ((setting, found),) = differences(table, ["loss"], {"loss": "a"}, "recall@1")
    assert setting == {"loss": "b"}
    np.testing.assert_allclose(found.runs, [0.01, 0.02, 0.03, 0.04])
    half = 3.182446 * 0.01 * (5 / 3) ** 0.5 / 2
    np.testing.assert_allclose(found[:3], [0.025, 0.025 - half, 0.025 + half], rtol=1e-6)
    ((_, back),) = differences(table, ["loss"], {"loss": "b"}, "recall@1")
    assert back.mean == pytest.approx(-0.025)  # a difference may be negative
    assert back.formatted("+.3f").startswith("-0.025 (-0.046 to -0.004")


def test_the_sentence_follows_from_the_number_of_repeats() -> None:
    assert "One repeat" in meaning([1, 1])
    assert "Student" in meaning([4, 5])
    assert "themselves" not in meaning([4, 5])
    assert "Student" not in meaning([2, 3, 1])
    assert "themselves" in meaning([2, 3])
    both = meaning([3, 4])
    assert "Student" in both
    assert "themselves" in both


def test_settings_in_words() -> None:
    assert where({"loss": "circle", "margin": 0.4}) == "circle, margin 0.4"
    assert where({"batch.samples": 16.0, "miner": "none"}) == "batch.samples 16, miner none"
