"""How cosines are read: the formula, the bundle that keeps it, and `Model.same`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pullpush.encoders import Decision, ImageEncoder, load, save
from pullpush.errors import UserError

DECISION = Decision(
    method="logistic",
    scores=(-1.0, 0.5, 1.0),
    log_ratios=(-6.0, 0.0, 4.0),
    thresholds=(0.0, 0.5, 0.8),
    fars=(1.0, 0.1, 0.001),
    classes=12,
    positives=300,
    negatives=20_000,
    losses={"logistic": 0.2, "isotonic": 0.25},
)


def images(n: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 40, 37, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in pixels]


@pytest.fixture
def folder(tmp_path) -> Path:
    encoder = ImageEncoder("test_resnet", weights="none", dim=8, size=32)
    save(tmp_path / "model", encoder, decision=DECISION)
    return tmp_path / "model"


@pytest.mark.parametrize("prior", [0.5, 0.01, 0.9])
def test_probability_is_bayes_rule(prior: float) -> None:
    """Odds after = odds before times the ratio of the likelihoods, written out, at the points and between them."""
    for score, ratio in ((0.5, 0.0), (0.75, 2.0), (-1.0, -6.0), (1.0000002, 4.0), (-0.25, -3.0)):
        odds = prior / (1 - prior) * math.exp(ratio)
        assert DECISION.probability(score, prior) == pytest.approx(odds / (1 + odds), rel=1e-12)
    assert DECISION.probability(0.5) == 0.5


def test_probability_keeps_the_shape_and_shows_nan() -> None:
    found = DECISION.probability(np.array([[0.1, np.nan], [0.9, 0.2]], np.float32))
    assert found.shape == (2, 2)
    assert found.dtype == np.float64
    assert np.isnan(found[0, 1])
    assert np.isfinite(found[[0, 1, 1], [0, 0, 1]]).all()
    assert (np.diff(DECISION.probability(np.linspace(-1, 1, 99))) > 0).all()


def test_threshold_is_linear_in_the_logarithm_of_the_rate() -> None:
    assert DECISION.threshold(0.1) == pytest.approx(0.5)
    assert DECISION.threshold(0.01) == pytest.approx(0.65)
    assert DECISION.threshold(0.001) == pytest.approx(0.8)
    assert DECISION.threshold(math.sqrt(0.1)) == pytest.approx(0.25)


@pytest.mark.parametrize("far", [0, 1, -0.1, math.nan, 1e-4])
def test_a_rate_that_cannot_be_told_is_refused(far: float) -> None:
    match = "20,000 pairs.*at least 0.001.*--data.validation" if far == 1e-4 else "above 0 and below 1"
    with pytest.raises(UserError, match=match):
        DECISION.threshold(far)


def test_a_prior_is_a_probability() -> None:
    for prior in (0, 1, math.nan, 2):
        with pytest.raises(UserError, match="prior must be a number above 0 and below 1"):
            DECISION.probability(0.5, prior)


def test_as_json_and_back() -> None:
    values = json.loads(json.dumps(DECISION.values()))
    assert Decision.of(values) == DECISION
    assert Decision.of(values | {"later": "version"}) == DECISION


DAMAGES = {
    "missing": ({"scores": None}, "no 'scores'"),
    "not numbers": ({"scores": ["a", "b", "c"]}, "scores of a decision must be a list"),
    "infinite": ({"log_ratios": [0.0, 1.0, math.inf]}, "log_ratios of a decision must be a list"),
    "of other lengths": ({"log_ratios": [0.0, 1.0]}, "3 scores and 2 log_ratios"),
    "descending scores": ({"scores": [0.5, 0.1, 1.0]}, "scores of a decision must ascend"),
    "descending ratios": ({"log_ratios": [2.0, 1.0, 3.0]}, "log_ratios of a decision must ascend"),
    "ascending rates": ({"fars": [0.1, 0.2, 0.001]}, "fars of a decision must descend"),
    "a rate of 0": ({"fars": [1.0, 0.1, 0.0]}, "above 0 and at most 1"),
    "empty": ({"fars": [], "thresholds": []}, "0 thresholds and 0 fars"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_read_is_checked(folder: Path, change: dict, message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["decision"] |= change
    config["decision"] = {name: value for name, value in config["decision"].items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"config.json.*{message}.*(restore|write)"):
        load(folder)


def test_the_bundle_keeps_it_beside_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    assert model.decision == DECISION
    assert save(tmp_path / "without", model.image) == model.fingerprint
    assert "decision" not in json.loads((tmp_path / "without" / "config.json").read_text())
    assert load(tmp_path / "without").decision is None


def test_same(folder: Path) -> None:
    model, (a, b, c) = load(folder), images(3)
    x = model.embed([a, b, c]).astype(np.float64)
    one = model.same(a, b)
    assert isinstance(one, float)
    assert one == pytest.approx(DECISION.probability(x[0] @ x[1]), abs=1e-6)
    assert model.same(a, b, prior=0.01) == pytest.approx(DECISION.probability(x[0] @ x[1], 0.01), abs=1e-6)
    np.testing.assert_allclose(model.same([a, b], [c, a]), [model.same(a, c), model.same(b, a)], atol=1e-6)
    np.testing.assert_allclose(model.same(np.asarray(a), [b, c]), [one, model.same(a, c)], atol=1e-6)
    assert model.same([a], [b]).shape == (1,)
    assert model.same([], []).shape == (0,)
    with pytest.raises(UserError, match="2 images are to be compared with 3"):
        model.same([a, b], [a, b, c])


def test_same_without_a_decision_says_what_to_do(folder: Path) -> None:
    model = load(folder)
    model.decision = None
    with pytest.raises(UserError, match=r"no decision.*--data\.validation"):
        model.same(*images(2))
