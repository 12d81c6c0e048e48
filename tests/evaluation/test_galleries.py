"""Simulated galleries: the chances by enumeration, the jackknife by leaving out, and the rate that is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from pullpush.errors import UserError
from pullpush.evaluation import galleries
from pullpush.evaluation.galleries import fit_naming

NOISE = 0.6


def population(classes: int, images: int, generator: np.random.Generator, dim: int = 12):
    """Classes of one kind, in families of which some are closer to each other."""
    families = generator.normal(size=(60, dim))[generator.integers(0, 60, classes)]
    centres = families + 0.8 * generator.normal(size=(classes, dim))
    labels = np.repeat(np.arange(classes), images)
    x = centres[labels] + NOISE * generator.normal(size=(len(labels), dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def test_chances_are_those_of_all_pairs_and_without_a_class_those_of_the_others() -> None:
    generator = np.random.default_rng(0)
    labels = np.array([0, 0, 1, 2, 2, 2, 3, 4, 4, 5])
    columns = np.array([0, 2, 3, 4, 5])  # class 1 has too few images to be enrolled
    scores = generator.normal(size=(10, 5)).astype(np.float32)
    scores[labels[:, None] == columns] = -np.inf
    edges = np.array([-0.5, 0.2, 0.9])

    def by_loops(classes, edge):
        shares = [
            np.mean(scores[labels == a, column] >= edge)
            for a in classes
            for column, b in enumerate(columns)
            if b in classes and a != b
        ]
        return np.mean(shares)

    chance, without = galleries._chances(scores, labels, columns, edges)
    for i, edge in enumerate(edges):
        assert chance[i] == pytest.approx(by_loops(range(6), edge))
        for label in range(6):
            assert without[i, label] == pytest.approx(by_loops([c for c in range(6) if c != label], edge))


def test_a_pair_of_classes_that_are_close_is_half_an_accept() -> None:
    """Of m such pairs among C classes each makes 1 / m of the chance: leaving out one of its two classes takes it."""
    labels, columns = np.arange(40), np.arange(40)
    for pairs in (1, 3):
        scores = np.zeros((40, 40), np.float32)
        for a in range(0, 2 * pairs, 2):
            scores[a, a + 1] = scores[a + 1, a] = 1
        np.fill_diagonal(scores, -np.inf)
        [chance], [without] = galleries._chances(scores, labels, columns, np.array([0.5]))
        assert chance == pytest.approx(2 * pairs / (40 * 39))
        assert chance**2 / (39 * without.var()) == pytest.approx(pairs / 2, rel=0.1)


@pytest.fixture(scope="module")
def kind():
    """Items of 1,500 classes, and five times how scores are read, by 150 others of their kind each."""
    x, labels = population(2250, 6, np.random.default_rng(0))
    fits = [fit_naming(x[part], labels[part], seed=seed) for seed, part in enumerate(np.arange(4500).reshape(5, 900))]
    return x[4500:], labels[4500:] - 750, fits


@pytest.mark.parametrize(
    ("images", "far"),
    [
        ([1] * 5, 0.1),
        ([5] * 5, 0.1),
        ([1] * 5, 0.01),
        ([5] * 5, 0.01),
        ([4] * 30, 0.05),  # between those that were simulated
        ([1] * 10 + [6] * 10, 0.1),
    ],
    ids=["1", "5", "1 rare", "5 rare", "between", "mixed"],
)
def test_strangers_of_other_classes_are_named_at_the_rate_that_was_asked_for(kind, images, far) -> None:
    x, labels, fits = kind
    generator, rates = np.random.default_rng(9), []
    for draw in range(60):
        some = generator.permutation(1500)[: len(images)]
        prototypes = np.stack([x[labels == c][:n].sum(axis=0) for c, n in zip(some, images, strict=True)])
        prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
        best = (x[~np.isin(labels, some)] @ prototypes.T).max(axis=1)
        rates.append(np.mean(best >= fits[draw % 5].threshold(far, np.array(images))))
    assert 0.5 * far < np.mean(rates) < 1.05 * far


@pytest.mark.parametrize(("count", "shots"), [(5, 1), (5, 5), (60, 1), (60, 3)])
def test_probabilities_of_names_hold_on_other_classes(kind, count: int, shots: int) -> None:
    """The calibration error, written out: half of those who ask are strangers, ten bins."""
    x, labels, fits = kind
    generator = np.random.default_rng(1)
    sums = np.zeros(10)
    for draw in range(20 if count < 20 else 5):
        some = generator.permutation(1500)[:count]
        place = np.tile(np.arange(6), 1500)
        gallery = np.stack([x[(labels == c) & (place < shots)].sum(axis=0) for c in some])
        gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
        known = np.flatnonzero(np.isin(labels, some) & (place >= shots))
        others = np.flatnonzero(~np.isin(labels, some))
        scores = x[np.concatenate([known, others])] @ gallery.T
        right = np.append(some[scores[: len(known)].argmax(axis=1)] == labels[known], np.zeros(len(others)))
        weight = np.append(np.full(len(known), 0.5 / len(known)), np.full(len(others), 0.5 / len(others)))
        chance = fits[draw % 5].probabilities(scores, np.full(count, shots))
        sums += np.bincount(np.minimum((chance * 10).astype(int), 9), weight * (right - chance), 10)
    assert np.abs(sums).sum() / (20 if count < 20 else 5) < 0.03


def test_the_roles_of_queries_and_gallery_are_kept_apart() -> None:
    x, labels = population(40, 4, np.random.default_rng(2))
    blurred = x + 0.3 * np.random.default_rng(3).normal(size=x.shape)
    one, other = fit_naming(x, labels), fit_naming(blurred, labels, gallery=x)
    assert other.threshold(0.1, np.ones(5, int)) < one.threshold(0.1, np.ones(5, int)) - 0.01


def test_names_order_and_repeated_items_change_nothing() -> None:
    x, labels = population(30, 3, np.random.default_rng(4))
    known = fit_naming(x, labels, np.arange(90))
    again = fit_naming(
        np.concatenate([x, x[:9]]), np.append(labels, labels[:9]), np.append(np.arange(90), np.arange(9))
    )
    assert known == again == fit_naming(x, np.array([f"{label:02d}" for label in labels]))
    assert known.shots == (1, 2)
    assert fit_naming(x, labels, seed=1) != known


def test_of_many_items_some_classes_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = population(100, 3, np.random.default_rng(5))
    monkeypatch.setattr(galleries, "CELLS", 40 * 120)
    rows = galleries._some(labels, np.random.default_rng(0))
    assert len(rows) == 120
    assert len(np.unique(labels[rows])) == 40
    assert fit_naming(x, labels).shots == (1, 2)


def test_what_cannot_be_told() -> None:
    x, labels = population(9, 4, np.random.default_rng(6))
    assert fit_naming(x, labels) is None
    same = fit_naming(np.ones((40, 4)), np.repeat(np.arange(20), 2))
    with pytest.raises(UserError, match="can't be told"):
        same.threshold(0.5, np.ones(3, int))
    with pytest.raises(UserError, match="NaN"):
        fit_naming(np.full((40, 4), np.nan), np.repeat(np.arange(20), 2))
    with pytest.raises(UserError, match="36 rows"):
        fit_naming(x, labels[:-1])
