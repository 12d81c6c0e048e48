"""The decision: probabilities that hold on classes never seen, thresholds that keep the rate that was asked for."""

import numpy as np
import pytest

from pullpush.encoders import Decision
from pullpush.errors import UserError
from pullpush.evaluation import fit_decision, reliability
from pullpush.evaluation.calibration import Scores, isotonic, logistic


def made(classes: int, seed: int, noise: float = 0.8, dim: int = 16):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), rng.integers(2, 9, classes))
    x = rng.standard_normal((classes, dim))[labels] + noise * rng.standard_normal((len(labels), dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels


def pairs_of(x, labels):
    i, j = np.triu_indices(len(x), 1)
    return (x @ x.T)[i, j], labels[i] == labels[j]


@pytest.fixture(scope="module")
def decision() -> Decision:
    found = fit_decision(*made(150, 0))
    assert found is not None
    return found


def test_probabilities_hold_on_other_classes(decision: Decision) -> None:
    """The calibration error, written out: pairs of both kinds as many, ten bins."""
    x, labels = made(300, 1)
    scores, same = pairs_of(x, labels)
    weight = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())
    predicted = decision.probability(scores)
    bins = np.minimum((predicted * 10).astype(int), 9)
    error = sum(abs((weight * same)[bins == b].sum() - (weight * predicted)[bins == b].sum()) for b in range(10))
    assert error < 0.02
    assert reliability(decision, x, labels).error == pytest.approx(error, abs=1e-3)


@pytest.mark.parametrize("prior", [0.02, 0.9])
def test_a_prior_is_that_of_the_pairs(decision: Decision, prior: float) -> None:
    """Among pairs of which such a share is of one class, so many are as the probabilities say."""
    scores, same = pairs_of(*made(300, 1))
    weight = np.where(same, prior / same.sum(), (1 - prior) / (~same).sum())
    assert (weight * decision.probability(scores, prior)).sum() == pytest.approx(prior, abs=0.02)


def test_a_decision_that_is_wrong_is_seen(decision: Decision) -> None:
    x, labels = made(300, 1)
    wrong = Decision.of(decision.values() | {"log_ratios": tuple(3 + each for each in decision.log_ratios)})
    assert reliability(wrong, x, labels).error > 0.1


@pytest.mark.parametrize("far", [0.1, 0.01, 0.001])
def test_thresholds_keep_the_rate_on_other_classes(decision: Decision, far: float) -> None:
    scores, same = pairs_of(*made(300, 1))
    assert (scores[~same] >= decision.threshold(far)).mean() == pytest.approx(far, rel=0.35)
    own, same = pairs_of(*made(150, 0))
    assert (own[~same] >= decision.threshold(far)).mean() == pytest.approx(far, rel=0.05)


def test_rates_reach_down_to_ten_pairs(decision: Decision) -> None:
    smallest = decision.fars[-1]
    assert 10 <= smallest * decision.negatives < 40
    with pytest.raises(UserError, match="can't be told"):
        decision.threshold(smallest / 2)


def test_the_better_fit_is_kept(decision: Decision) -> None:
    assert set(decision.losses) == {"logistic", "isotonic"}
    assert decision.method == min(decision.losses, key=lambda name: decision.losses[name])
    assert decision.losses[decision.method] < np.log(2)


def test_logistic_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    scores, same = pairs_of(*made(40, 2))
    weight = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum()) * len(same)
    expected = LogisticRegression(C=1e9, tol=1e-9, max_iter=1000).fit(scores[:, None], same, sample_weight=weight)
    order = np.argsort(scores)
    knots, ratios = logistic(Scores(scores[order], same[order].astype(float), (~same)[order].astype(float)))
    at = np.linspace(-1, 1, 9)
    np.testing.assert_allclose(
        np.interp(at, knots, ratios), expected.decision_function(at[:, None]), rtol=1e-3, atol=0.01
    )


def test_isotonic_is_the_ratio_of_each_step() -> None:
    """With the imagined pair at either end."""
    counts = Scores(np.array([0.0, 0.5, 0.9]), np.array([1.0, 5.0, 4.0]), np.array([50.0, 40.0, 10.0]))
    knots, ratios = isotonic(counts)
    share = {0.0: (1 + 1, 50), 0.5: (5, 40), 0.9: (4, 10 + 1)}
    expected = [np.log((a / 10) / (b / 100)) for a, b in share.values()]
    np.testing.assert_allclose(knots, [0.0, 0.5, 0.9])
    np.testing.assert_allclose(ratios, expected)
    assert np.isfinite(isotonic(Scores(np.array([0.0, 1.0]), np.array([0.0, 5.0]), np.array([9.0, 0.0])))[1]).all()


def test_a_gallery_that_is_embedded_in_another_way() -> None:
    x, labels = made(60, 0)
    one, other = fit_decision(x, labels), fit_decision(x, labels, gallery=x)
    assert one is not None
    assert other is not None
    assert (other.positives, other.negatives) == (2 * one.positives, 2 * one.negatives)
    np.testing.assert_allclose(other.probability([0.2, 0.5, 0.9]), one.probability([0.2, 0.5, 0.9]), atol=0.01)


@pytest.mark.parametrize("classes", [1, 2, 9])
def test_too_few_classes_are_not_enough(classes: int) -> None:
    assert fit_decision(*made(classes, 0)) is None
    x, labels = made(classes, 0)
    assert fit_decision(np.r_[x, x], np.r_[labels, 100 + np.arange(len(x))]) is None  # many classes of one item


def test_separated_and_collapsed_models() -> None:
    x, labels = made(30, 0, noise=1e-3)
    apart = fit_decision(x, labels)
    assert apart is not None
    assert apart.probability([0.5, 1.0]) == pytest.approx([0, 1], abs=0.05)
    collapsed = fit_decision(np.ones_like(x), labels)
    assert collapsed is not None
    assert collapsed.probability(1.0) == pytest.approx(0.5, abs=0.02)


def test_bad_input_is_named() -> None:
    x, labels = made(20, 0)
    with pytest.raises(UserError, match="NaN"):
        fit_decision(x * np.nan, labels)
    with pytest.raises(UserError, match="rows"):
        fit_decision(x, labels[:9])
