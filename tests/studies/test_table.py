"""Tables over seeds, and how a page shows them."""

import numpy as np
import pandas as pd

from pullpush.studies.page import _cells
from pullpush.studies.table import within_seeds


def test_what_a_seed_adds_to_all_settings_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    effect, seeds = rng.random(4), 10 * rng.random(3)
    rows = [(s, m, effect[m] + seeds[s]) for s in range(3) for m in range(4)]
    table = pd.DataFrame(rows, columns=["seed", "setting", "y"])
    found = within_seeds(table, ["setting"], "y").groupby("setting")["y"]
    np.testing.assert_allclose(found.mean(), effect + seeds.mean())
    np.testing.assert_allclose(found.std(), 0, atol=1e-12)  # nothing but the seeds differed
    # of two settings the band is that of half their paired difference
    noisy = pd.DataFrame({"seed": [0, 1, 2] * 2, "setting": [0] * 3 + [1] * 3, "y": rng.random(6)})
    both = noisy.pivot(index="seed", columns="setting", values="y")
    spread = within_seeds(noisy, ["setting"], "y").groupby("setting")["y"].std()
    np.testing.assert_allclose(spread, (both[0] - both[1]).std() / 2**0.5)


def test_measured_numbers_of_a_column_have_equal_decimals() -> None:
    table = pd.DataFrame({"name": ["a", "b", "c"], "lr": [0.1, 5e-4, 1.0], "recall": [0.48502, 0.5, np.nan]})
    table = table.assign(seconds=[286.61234, 3.0, 12.5], steps=[1000, 2, 3])
    assert _cells(table) == [
        ("a", "0.1", "0.4850", "286.6", "1000"),
        ("b", "0.0005", "0.5000", "3.0", "2"),
        ("c", "1", "–", "12.5", "3"),
    ]


def test_numbers_among_words_are_short_too() -> None:
    table = pd.DataFrame({"size": ["all", 0.123456, float("nan")]}, dtype=object)
    assert _cells(table) == [("all",), ("0.1235",), ("–",)]


def test_whole_numbers_have_no_decimals() -> None:
    table = pd.DataFrame({"batch": [16.0, 8.0], "steps": [10_000.0, 20_000.0], "mixed": pd.Series([16.0, "all"])})
    assert _cells(table) == [("16", "10000", "16"), ("8", "20000", "all")]
