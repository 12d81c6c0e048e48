"""What is said of the miner and the gap holds for every sign and size of the gap."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpush.studies.gap import open_question


def gaps(*rows: tuple[float, float, float], error: float = 0.01, **columns: object) -> pd.DataFrame:
    """Rows of training, with and without the miner, a row a seed."""
    return pd.DataFrame(
        [
            {
                "loss": "circle",
                "seed": seed,
                "miner": True,
                "training": t,
                "training_error": error,
                "with_miner": mined,
                "without_miner": plain,
                "all_pairs": 2.0,
            }
            | columns
            for seed, (t, mined, plain) in enumerate(rows)
        ]
    )


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        ([(1.0, 1.2, 2.0)], "explains most of the gap, 80%"),
        ([(1.0, 1.7, 2.0)], "explains a part of the gap, 30%"),
        ([(1.0, 2.0, 2.0)], "does not explain the gap"),
        ([(1.0, 1.95, 2.0)], "does not explain the gap"),
        ([(1.0, 3.0, 2.0)], "does not explain the gap, which is wider with it"),
        ([(1.0, 0.67, 2.0)], "with it 0.330 below, on the other side: the miner changes more than the gap"),
        ([(1.0, 1.01, 2.0)], "no more apart than noise: the missing miner explains the gap"),
        ([(1.0, 1.5, 1.01)], "no gap to explain, beyond noise, and with it validation is 0.500 above training"),
        ([(1.0, 1.01, 1.01)], "no gap to explain, beyond noise."),
        # a gap below training, of which the same holds
        ([(2.0, 1.8, 1.0)], "without the miner validation is 1.000 below training, with it 0.200 below"),
        ([(2.0, 1.8, 1.0)], "explains most of the gap, 80%"),
        ([(2.0, 2.5, 1.0)], "0.500 above, on the other side"),
        ([(2.0, 0.5, 1.0)], "which is wider with it"),
        # the seeds do not agree that there is a gap
        ([(1.0, 1.2, 1.5), (1.0, 1.2, 0.7)], "no gap to explain"),
        ([(1.0, 1.2, 1.5), (1.0, 1.2, 1.4)], "explains most"),
    ],
)
def test_the_sentence_is_the_one_that_the_numbers_allow(rows: list[tuple[float, float, float]], answer: str) -> None:
    (sentence,) = open_question(gaps(*rows))
    assert answer in sentence


losses = st.floats(0, 10)


@given(st.lists(st.tuples(losses, losses, losses), min_size=1, max_size=5), st.floats(0, 0.5))
def test_of_any_numbers_it_says_nothing_untrue(rows: list[tuple[float, float, float]], error: float) -> None:
    (sentence,) = open_question(gaps(*rows, error=error))
    t, mined, plain = np.mean(rows, axis=0)
    for share in re.findall(r"(-?\d+)%", sentence):
        assert 10 <= int(share) <= 100
        assert int(share) == pytest.approx(100 * (plain - mined) / (plain - t), abs=0.51)
    if "most of the gap" in sentence:
        assert abs(mined - t) < abs(plain - t) / 2
    if "wider with it" in sentence:
        assert abs(mined - t) > abs(plain - t)
    if "other side" in sentence:
        assert (mined - t) * (plain - t) < 0
    for size, side in re.findall(r"([0-9.]+) (above|below)", sentence):
        assert any(
            float(size) == pytest.approx(abs(v - t), abs=0.00051) and (v > t) == (side == "above")
            for v in (mined, plain)
        )
    assert ("no gap to explain" in sentence) or abs(plain - t) > 0


def test_without_a_miner_or_a_validation_loss_the_question_is_not_asked() -> None:
    assert open_question(gaps((1.0, 2.0, 2.0), miner=False)) == []
    nothing = gaps((1.0, np.nan, np.nan), loss="proxy_anchor")
    assert open_question(nothing) == []
    both = open_question(pd.concat([gaps((1.0, 1.2, 2.0)), nothing]))
    assert len(both) == 2
    assert "proxies of training classes" in both[1]
