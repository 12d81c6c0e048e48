"""What a search says of its hits holds: among queries that it was not told from, in collections of any classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks.held import Held
from pullpush.encoders import Decision
from pullpush.evaluation import fit_decision, knn
from pullpush.search.chances import NEAREST, Chances, chances_of, pair_share, probed


def made(classes: int, seed: int, giants: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes of 2 to 8 items, and some of 120, whose pairs are most of all that are of one class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), np.r_[np.full(giants, 120), rng.integers(2, 9, classes - giants)])
    x = rng.standard_normal((classes, 12))[labels] + 0.8 * rng.standard_normal((len(labels), 12))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def table_of(labels: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"id": np.arange(len(labels)), "label": labels.astype(str)})


def error(shown: np.ndarray, right: np.ndarray) -> float:
    bin_ = np.minimum((shown * 10).astype(int), 9).ravel()
    return float(np.abs(np.bincount(bin_, (shown - right).ravel())).sum() / shown.size)


@pytest.fixture(scope="module")
def decision() -> Decision:
    found = fit_decision(*made(120, 0))
    assert found is not None
    return found


def test_a_hit_is_right_as_often_as_it_says(decision: Decision) -> None:
    x, labels = made(250, 1, giants=4)
    table = table_of(labels)
    chances = chances_of(table, Held(x), decision)
    others = np.setdiff1d(np.arange(len(x)), probed(table))
    found = knn.search(x[others], x, NEAREST, query_ids=others, gallery_ids=np.arange(len(x)))
    right = labels[found.indices] == labels[others][:, None]
    share = pair_share(table["label"])
    assert share is not None
    assert error(chances(found.similarities), right) < 0.05
    assert error(decision.probability(found.similarities, share), right) > 0.1  # as of random pairs


def test_it_is_the_least_log_loss_of_the_hits(decision: Decision) -> None:
    x, labels = made(150, 2)
    table, ids = table_of(labels), np.arange(len(x))
    _, shift, slope = chances_of(table, Held(x), decision)
    rows = probed(table)
    found = knn.search(x[rows], x, NEAREST, query_ids=rows, gallery_ids=ids)
    right = (labels[found.indices] == labels[rows][:, None]).ravel()
    ratios = np.interp(found.similarities.ravel().astype(np.float64), decision.scores, decision.log_ratios)
    expected = LogisticRegression(C=1e9, tol=1e-8).fit(ratios[:, None], right)
    assert (shift, slope) == pytest.approx((expected.intercept_[0], expected.coef_[0, 0]), abs=0.03)


def test_few_classes_tell_nothing(decision: Decision) -> None:
    """The share of pairs is the prior; where no two items have a class, that of the validation."""
    x, labels = made(9, 3)
    share = sum(n * (n - 1) for n in np.bincount(labels)) / (len(labels) * (len(labels) - 1))
    assert pair_share(table_of(labels)["label"]) == pytest.approx(share)
    scores = np.array([0.1, 0.6, 0.9])
    np.testing.assert_allclose(
        chances_of(table_of(labels), Held(x), decision)(scores), decision.probability(scores, share)
    )
    nameless = table_of(labels).assign(label="")
    assert pair_share(nameless["label"]) is None
    share = decision.positives / (decision.positives + decision.negatives)
    np.testing.assert_allclose(chances_of(nameless, Held(x), decision)(scores), decision.probability(scores, share))


def test_items_without_a_label_are_neither_right_nor_wrong(decision: Decision) -> None:
    x, labels = made(200, 4)
    table = table_of(labels)
    copies = pd.concat([table, table.assign(id=table["id"] + len(x), label="")])
    scores = np.linspace(0.5, 0.95, 10)
    expected = chances_of(table, Held(x), decision)(scores)
    np.testing.assert_allclose(chances_of(copies, Held(np.concatenate([x, x])), decision)(scores), expected, atol=0.1)


def test_where_all_hits_are_right_or_wrong_it_stays_finite(decision: Decision) -> None:
    x = np.repeat(np.eye(16, dtype=np.float32), 30, axis=0)
    labels = np.repeat(np.arange(16), 30)
    right = chances_of(table_of(labels), Held(x), decision)
    assert np.isfinite(right[1:]).all()
    assert right(np.array([1.0])) > 0.99
    shuffled = np.arange(len(x)) % 240  # two of each class, far apart
    wrong = chances_of(table_of(shuffled), Held(x[np.random.default_rng(0).permutation(len(x))]), decision)
    assert isinstance(wrong, Chances)
    assert np.isfinite(wrong[1:]).all()
    assert wrong(np.array([1.0])) < 0.1
