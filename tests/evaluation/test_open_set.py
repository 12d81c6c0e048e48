"""Identification, few-shot and k-NN accuracy against float64 loops from their definitions, scikit-learn, and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from pullpush.errors import UserError
from pullpush.evaluation import knn
from pullpush.evaluation.classes import Closest, closest_classes
from pullpush.evaluation.open_set import detection_rate, identification, naming, threshold_at
from pullpush.evaluation.votes import _right, knn_accuracy


def clustered(n: int = 200, classes: int = 20, dim: int = 8, noise: float = 0.8, seed: int = 0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    return generator.normal(size=(classes, dim))[labels] + noise * generator.normal(size=(n, dim)), labels


def unit(x):
    return x / math.sqrt(sum(v * v for v in x))


def scores_by_loops(query, gallery, labels, own, rule):
    """The score of each class, in float64."""
    scores = {}
    for label in sorted(set(labels)):
        rows = [unit(g) for i, (g, of) in enumerate(zip(gallery, labels, strict=True)) if of == label and i != own]
        if rows:
            mean = unit(sum(rows))
            scores[label] = max(float(unit(query) @ g) for g in rows) if rule == "max" else float(unit(query) @ mean)
    return scores


@pytest.mark.parametrize("rule", ["max", "mean"])
@pytest.mark.parametrize("cells", [1 << 24, 500])
@pytest.mark.parametrize("inside", [False, True])
def test_the_closest_class_equals_the_loops(monkeypatch, rule, cells, inside):
    monkeypatch.setattr(knn, "CELLS", cells)
    x, labels = clustered(90, 12)
    labels[:2] = [50, 51]  # alone in their class
    gallery, of = (x, labels) if inside else (x[:60], labels[:60])
    queries, wanted = (x, labels) if inside else (x[60:], labels[60:])
    own = np.arange(90) if inside else np.full(30, -1)
    found = closest_classes(queries.astype(np.float32), wanted, gallery.astype(np.float32), of, own, rule)
    for i, (query, label) in enumerate(zip(queries, wanted, strict=True)):
        scores = scores_by_loops(query, gallery, of, own[i], rule)
        mine = scores.pop(label, -math.inf)
        np.testing.assert_allclose([found.own[i], found.other[i]], [mine, max(scores.values())], atol=1e-5)
        assert found.right[i] == float(mine > max(scores.values()))
    np.testing.assert_array_equal(found.best, np.maximum(found.own, found.other))


def test_one_image_a_class_makes_both_rules_one():
    x, labels = clustered(60, 10)
    gallery = np.unique(labels, return_index=True)[1]
    one, other = (closest_classes(x, labels, x[gallery], labels[gallery], rule=rule) for rule in ("max", "mean"))
    np.testing.assert_allclose(one.best, other.best, atol=1e-6)


def test_classes_that_are_tied_share_the_answer_and_a_collapsed_model_guesses():
    x = np.ones((12, 4), np.float32)
    labels = np.repeat(np.arange(4), 3)
    found = closest_classes(x, labels, x[::3], labels[::3])
    np.testing.assert_allclose(found.right, 0.25)
    result = identification(x, labels, shots=(1,), fars=(0.5,))[0]
    assert result.accuracy.value == pytest.approx(0.25)
    assert result.detected[0.5].value == 0, "nothing is above a threshold that all are tied with"
    assert knn_accuracy(x, labels, ks=(1, 5)) == {1: 0.0, 5: 0.0}, "the others have a vote more"


def test_the_threshold_is_the_least_that_keeps_the_rate():
    generator = np.random.default_rng(1)
    scores = generator.normal(size=237).round(1).astype(np.float32)  # with ties
    for far in (0.5, 0.1, 0.01, 1 / 237):
        [threshold] = threshold_at(scores, far)
        assert (scores > threshold).mean() <= far + 1e-12
        below = scores[scores < threshold]
        assert (scores > below.max()).mean() > far
    assert np.isnan(threshold_at(scores, 0.004))
    assert np.isnan(threshold_at(scores[:0], 0.5))


def test_weights_are_repetitions():
    generator = np.random.default_rng(2)
    known = Closest(*generator.normal(size=(2, 80)).astype(np.float32), generator.random(80))
    unknown = generator.normal(size=150).astype(np.float32)
    many, others = generator.integers(0, 4, 80), generator.integers(0, 4, 150)
    repeated = Closest(*(np.repeat(each, many) for each in known))
    for far in (0.3, 0.05):
        [once] = detection_rate(repeated, np.repeat(unknown, others), far)
        [weighted] = detection_rate(known, unknown, far, many[None].astype(float), others[None].astype(float))
        assert weighted == pytest.approx(once)


def test_the_detection_rate_equals_the_loops():
    x, labels = clustered(300, 30)
    gallery = np.concatenate([np.flatnonzero(labels == label)[:2] for label in range(15)])
    mated = np.setdiff1d(np.flatnonzero(labels < 15), gallery)
    others = np.flatnonzero(labels >= 15)
    answers = [scores_by_loops(x[i], x[gallery], labels[gallery], None, "mean") for i in [*mated, *others]]
    best = [max(scores.items(), key=lambda pair: pair[1]) for scores in answers]
    strangers = sorted((score for _, score in best[len(mated) :]), reverse=True)
    found = closest_classes(x, labels, x[gallery], labels[gallery])
    known = Closest(*(each[mated] for each in found))
    for far in (0.2, 0.05, 0.01):
        threshold = strangers[int(far * len(others))]
        hits = [name == labels[i] and score > threshold for i, (name, score) in zip(mated, best, strict=False)]
        assert detection_rate(known, found.best[others], far)[0] == pytest.approx(np.mean(hits))


def test_perfect_classes_are_always_named_and_what_cannot_be_told_is_none():
    x, labels = np.repeat(np.eye(8), 6, axis=0), np.repeat(np.arange(8), 6)
    for result in identification(x, labels, fars=(0.1, 1e-3)):
        assert result.accuracy == (1, 1, 1)
        assert result.detected[0.1] == (1, 1, 1)
        assert result.values()["dir@far=1e-3"] is None
        assert result.values()["dir@far=1e-3/interval"] == [None, None]
        assert result.values()["dir@far=1e-1"] == 1


def test_each_rate_has_a_name_of_its_own():
    x, labels = np.repeat(np.eye(8), 6, axis=0), np.repeat(np.arange(8), 6)
    for result in identification(x, labels, fars=(0.15, 0.1)):
        assert {"dir@far=1.5e-1", "dir@far=1e-1"} <= result.values().keys()


def test_names_order_and_repeated_items_change_nothing():
    x, labels = clustered(150, 15, noise=0.5)
    ids = np.arange(150)
    known = identification(x, labels, ids)
    named = identification(x, np.array([f"class {label:02d}" for label in labels]), ids)
    twice = identification(np.concatenate([x, x[:9]]), np.concatenate([labels, labels[:9]]), np.append(ids, ids[:9]))
    assert str(known) == str(named) == str(twice)
    assert known[0].accuracy.low <= known[0].accuracy.value <= known[0].accuracy.high
    assert known[0].accuracy.value < known[1].accuracy.value, "five images tell more than one"
    assert identification(x, labels, ids, seed=1) != known
    order = np.random.default_rng(3).permutation(150)
    assert knn_accuracy(x[order], labels[order]) == knn_accuracy(x, labels)


@pytest.mark.parametrize("cells", [1 << 24, 2000])
def test_knn_accuracy_is_that_of_scikit_learn(monkeypatch, cells):
    monkeypatch.setattr(knn, "CELLS", cells)
    x, labels = clustered()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels[0] = 99  # alone: left out
    ks = (1, 3, 10, 500)
    expected = {}
    for k in ks:
        right = []
        for i in range(1, 200):
            rest = np.delete(np.arange(200), i)
            voters = KNeighborsClassifier(
                min(k, 199), weights=lambda d: np.exp((1 - d**2 / 2) / 0.07), algorithm="brute"
            )
            right.append(voters.fit(x[rest], labels[rest]).predict(x[i : i + 1])[0] == labels[i])
        expected[k] = np.mean(right)
    assert knn_accuracy(x, labels, ks=ks) == pytest.approx(expected)


def test_items_that_are_tied_for_the_last_place_share_it():
    # of the query (1, 0): one of its class at 0.8, three of another at 0.6, which have one place
    x = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0.6, -0.8], [0.6, 0.8]])
    labels = np.array([0, 0, 1, 1, 1])
    block = np.array([[-np.inf, 0.8, 0.6, 0.6, 0.6]], np.float32)
    for temperature in (0.07, 1.0):
        found = _right(block, [1, 2, 4], labels, labels[:1], temperature)
        # of two: a vote against a third of one, three times; of four: one against three, which are a little further
        assert [found[k][0] for k in (1, 2, 4)] == [1, 1, math.exp(0.2 / temperature) > 3]
    assert knn_accuracy(x, labels, ks=(1,)) == {1: 3 / 5}


def test_what_is_written_down_and_where_nobody_can_be_asked_for():
    x, labels = clustered(150, 15)
    found = naming(x, labels, np.arange(150))
    assert found["knn@5"] == knn_accuracy(x, labels)[5]
    assert [each["shots"] for each in found["identification"]] == [1, 5]
    assert naming(x, np.arange(150)) == {}
    assert naming(x, np.zeros(150, int)) == {}
    assert naming(np.repeat(x[:9], 2, axis=0), np.repeat(np.arange(9), 2), np.repeat(np.arange(9), 2)) == {}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shots": (0,)}, "give at least 1"),
        ({"draws": 0}, "give at least 1"),
        ({"enrolled": 1.0}, "between 0 and 1"),
        ({"fars": (0.0,)}, "above 0 and below 1"),
        ({"shots": (40,)}, "more than 40 images"),
    ],
)
def test_what_cannot_be_measured_is_said(options, says):
    x, labels = clustered()
    with pytest.raises(UserError, match=says):
        identification(x, labels, **options)


def test_bad_embeddings_and_votes():
    x, labels = clustered()
    with pytest.raises(UserError, match="200 rows"):
        identification(x, labels[:-1])
    with pytest.raises(UserError, match="at least 1"):
        knn_accuracy(x, labels, ks=(0,))
    with pytest.raises(UserError, match="alone in its class"):
        knn_accuracy(x, np.arange(200))
    x[3, 0] = np.nan
    for measure in (identification, knn_accuracy):
        with pytest.raises(UserError, match="NaN"):
            measure(x, labels)
