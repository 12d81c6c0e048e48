"""How scores of enrolled classes are read: what lies between what is kept, and bundles that have none of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from pullpush.encoders import Decision, ImageEncoder, load, save
from pullpush.encoders.naming import Naming
from pullpush.errors import UserError

CHANCES = (0.1, 0.01, 0.001)
# chances fall by ten each 0.1 of the cosine; of a class with four images they lie 0.05 higher
NAMING = Naming(
    shots=(1, 4),
    chances=CHANCES,
    thresholds=((0.3, 0.4, 0.5), (0.35, 0.45, 0.55)),
    accepts=((4000.0, 400.0, 40.0),) * 2,
    ratios=((-10.0, 8.0), (-16.0, 14.0)),
    weights=(0.3, 0.9, -0.1),
)


def images(*counts: int) -> np.ndarray:
    return np.array(counts, np.int64)


def chance(t: float, shots: int) -> float:
    return 10.0 ** (-1 - 10 * (t - 0.3 - 0.05 * (1 - 1 / shots) / (1 - 1 / 4)))


def accepts(t: float) -> float:
    return 40_000 * chance(t, 1)


def more(seen: float) -> float:
    """One accept more, and a standard error."""
    return 1 + 1 / math.sqrt(seen) + 1 / seen


def rate(t: float, counts: np.ndarray) -> float:
    return 1 - math.prod(1 - chance(t, int(shots)) for shots in counts)


@pytest.mark.parametrize("far", [0.3, 0.1, 0.05])
def test_the_threshold_is_where_so_many_are_named(far: float) -> None:
    for counts in (images(1), images(*[1] * 7), images(1, 1, 2, 4, 4)):
        t = NAMING.threshold(far, counts)
        if t > 0.301:
            assert rate(t, counts) * more(accepts(t)) == pytest.approx(far, rel=0.04)
        else:
            assert rate(0.3, counts) <= far


def test_the_enrolled_count_as_strangers_besides() -> None:
    counts, strangers = images(*[1] * 10), np.array([0.48, 0.44, 0.2])
    above = np.array([0.0, 1.0, 2.0])
    alone, t = NAMING.threshold(0.05, counts), NAMING.threshold(0.05, counts, strangers, above)
    assert t > alone, "two of ten that score higher are more than a twentieth"
    for at, fits in ((t, True), (t - 0.0005, False)):
        named = float((strangers >= at).sum())
        known = accepts(at)
        seen = named + known
        assert (seen * more(seen) / (10 + known / rate(at, counts)) <= 0.05) is fits


def test_more_images_and_more_classes_and_a_smaller_rate_ask_for_more() -> None:
    base = NAMING.threshold(0.1, images(*[1] * 8))
    assert base < NAMING.threshold(0.1, images(*[2] * 8)) < NAMING.threshold(0.1, images(*[4] * 8))
    assert NAMING.threshold(0.1, images(*[4] * 8)) < NAMING.threshold(0.1, images(*[8] * 8)), "beyond those kept"
    assert base < NAMING.threshold(0.1, images(*[1] * 20))
    assert base < NAMING.threshold(0.05, images(*[1] * 8))


def test_what_cannot_be_told_is_said() -> None:
    with pytest.raises(
        UserError, match=r"0\.001 among 50 classes can't be told.*ask for at least 0\.0\d+, or enrol more"
    ):
        NAMING.threshold(0.001, np.ones(50, np.int64))
    least = 0.0
    try:
        NAMING.threshold(0.001, np.ones(50, np.int64))
    except UserError as error:
        least = float(str(error).split("at least ")[1].split(",")[0])
    assert 0.05 < least < 0.07, "a chance of 0.001 from each of 50, and 40 accepts tell it"
    assert NAMING.threshold(least, np.ones(50, np.int64)) <= 0.5
    for far in (0.0, 1.0, math.nan):
        with pytest.raises(UserError, match="above 0 and below 1"):
            NAMING.threshold(far, np.ones(5, np.int64))
    none = replace(NAMING, thresholds=((), ()), accepts=((), ()))
    with pytest.raises(UserError, match="can't be told"):
        none.threshold(0.9, np.ones(5, np.int64))
    few = replace(NAMING, accepts=((0.9, 0.4, 0.2),) * 2)
    with pytest.raises(UserError, match="can't be told"):
        few.threshold(0.05, np.ones(5, np.int64))


def test_the_probability_is_that_of_bayes_corrected() -> None:
    counts, scores = images(1, 4, 2), np.array([[0.5, 0.7, -0.2], [0.9, 0.1, 0.95]], np.float32)
    half = (1 - 1 / 2) / (1 - 1 / 4)
    ends = [(-10, 8), (-16, 14), (-10 - 6 * half, 8 + 6 * half)]
    found = NAMING.probabilities(scores, counts)
    for row, best, chance in zip(scores.astype(float), (1, 2), found, strict=True):
        ratios = [math.exp(low + (s + 1) / 2 * (high - low)) for s, (low, high) in zip(row, ends, strict=True)]
        odds = ratios[best] / (3 + sum(ratios) - ratios[best])
        logit = 0.3 + 0.9 * math.log(odds) - 0.1 * math.log(3)
        assert chance == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-5)
    [alone] = replace(NAMING, weights=(0.0, 1.0, 0.0)).probabilities(np.array([[0.5]]), images(1))
    assert alone == pytest.approx(1 / (1 + math.exp(-(-10 + 0.75 * 18)))), "a pair, at a prior of a half"


def test_one_number_of_images_is_enough() -> None:
    one = Naming((1,), CHANCES, NAMING.thresholds[:1], NAMING.accepts[:1], NAMING.ratios[:1], NAMING.weights)
    assert one.threshold(0.1, images(5, 5)) == one.threshold(0.1, images(1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shots": (4, 1)}, "shots of a naming must ascend"),
        ({"shots": ()}, "shots of a naming must ascend"),
        ({"shots": (0, 1)}, "shots of a naming must ascend"),
        ({"chances": (0.001, 0.01, 0.1)}, "chances of a naming must descend"),
        ({"chances": (0.1, float("nan"))}, "chances of a naming must be"),
        ({"chances": (1.5, 0.1, 0.01)}, "between 1 and 0"),
        ({"thresholds": NAMING.thresholds[:1]}, "for each of its shots"),
        ({"thresholds": ((0.5, 0.3), ())}, "must ascend"),
        ({"thresholds": ((0.1, 0.2, 0.3, 0.4), ())}, "at most as many"),
        ({"thresholds": "high"}, "thresholds of a naming must be"),
        ({"accepts": NAMING.accepts[:1]}, "as many accepts as thresholds"),
        ({"accepts": ((4.0, 0.0, 1.0),) * 2}, "all above 0"),
        ({"ratios": ((1.0, 2.0),)}, "ratios for each"),
        ({"ratios": ((1.0,), (2.0,))}, "ratios of a naming must be"),
        ({"weights": (1.0, 2.0)}, "weights of a naming must be"),
        ({"chances": None}, "has no 'chances'"),
    ],
)
def test_what_is_read_is_checked(change: dict, message: str) -> None:
    values = {name: value for name, value in (NAMING.values() | change).items() if value is not None}
    with pytest.raises(UserError, match=message):
        Naming.of(values)
    with pytest.raises(UserError, match="must be a mapping"):
        Naming.of([1])


def test_bundles_keep_it_and_older_ones_have_none(tmp_path) -> None:
    encoder = ImageEncoder("test_resnet", weights="none", dim=8, size=32)
    decision = Decision("logistic", (-1.0, 1.0), (-5.0, 5.0), (0.0, 0.9), (1.0, 0.01), naming=NAMING)
    save(tmp_path / "model", encoder, decision=decision)
    assert load(tmp_path / "model").decision == decision
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    del config["decision"]["naming"]
    file.write_text(json.dumps(config))
    assert load(tmp_path / "model").decision == replace(decision, naming=None)
    config["decision"]["naming"] = NAMING.values() | {"shots": [1, 0]}
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json.*shots of a naming.*(restore|write)"):
        load(tmp_path / "model")
