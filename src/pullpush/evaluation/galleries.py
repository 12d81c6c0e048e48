r"""How scores of classes with a few enrolled images are read, told by classes not trained on: a `Naming`.

Each class is a stranger to each other: the chance that a stranger's image scores at least t with a class of s images is
the mean of the shares over all ordered pairs of classes. How well it is told is known by the jackknife over classes
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11; a class that is left out is neither stranger
nor enrolled): a chance p with the standard error $\sigma$ is known as well as from $K = (p / \sigma)^2$ independent
accepts.

How likely a name is right is fitted twice, each time by the log loss. Of classes with s images, scores of their other
images against those of strangers give the line $\lambda_s$, a log likelihood ratio. Bayes' rule with these
(`Naming.probabilities`) takes scores as independent, which they are not, and is corrected by a logistic
regression over galleries that are simulated with part of the classes, half of those who ask being strangers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pullpush.encoders.naming import TOLD, Naming, features
from pullpush.evaluation.classes import prototypes
from pullpush.evaluation.evaluate import sides
from pullpush.evaluation.knn import Floats, Ints, positions, unit
from pullpush.evaluation.ranks import unique_rows

__all__ = ["fit_naming"]

SHOTS = (1, 2, 3, 5, 10)
CHANCES = tuple(digit * 10.0**-power for power in range(1, 8) for digit in (5, 2, 1))
FEWEST = 10
"""Classes, below which nothing is fitted."""
DRAWS = 4
"""Draws of the enrolled images."""
CELLS = 1_000_000
"""Scores looked at together; of more, some of the classes are drawn."""
POINTS = 60
"""Thresholds at which the chances are looked at."""
SIZES = (2, 5, 10, 20, 50, 100, 200)
"""Classes of the simulated galleries, as far as most of the classes are left as strangers."""
STRANGERS = 200
"""Those who ask in a simulated gallery."""
ODDS = 30.0
"""Strangers to one of a class, of those whose scores a line is fitted to: it is to hold where names are given."""
WIDTH = 1000
"""Bins of the cosine from 0 to 1, to which a line is fitted."""


def fit_naming(embeddings: Any, labels: Any, ids: Any = None, *, gallery: Any = None, seed: int = 0) -> Naming | None:
    """How scores of enrolled classes are read.

    Args:
        embeddings: `[n, dim]`, of classes that the model was not trained on, as queries.
        labels: int `[n]`, or names.
        ids: int or names `[n]`; a repeated id is the same item listed twice and counts once.
        gallery: `[n, dim]`, the same items as they are enrolled, where that is another way.
        seed: of the draws of enrolled images, and of classes where there are many.

    Returns:
        None with fewer than ten classes of two images.

    Raises:
        UserError: for what `evaluate` refuses of embeddings, labels and ids.
    """
    given, _ = sides(embeddings, labels, ids, None, None, None)
    other = given if gallery is None else sides(gallery, labels, ids, None, None, None)[0]
    generator = np.random.default_rng(seed)
    rows = unique_rows(given)
    rows = rows[_some(given.labels[rows], generator)]
    rows = rows[np.argsort(given.labels[rows], kind="stable")]
    of = np.unique(given.labels[rows], return_inverse=True)[1]
    sizes = np.bincount(of)
    # at least half of the classes must have so many images and one that asks: fewer are no draw of them
    shots = tuple(s for s in SHOTS if (sizes > s).sum() >= max(FEWEST, len(sizes) / 2))
    if not shots:
        return None
    x, y = unit(given.embeddings[rows]), unit(other.embeddings[rows])
    drawn = [[_draw(x, y, of, s, generator) for _ in range(DRAWS)] for s in shots]
    curves = [_curve(draws, of) for draws in drawn]
    ratios = [_ratio(draws, of) for draws in drawn]
    asked = [_asked(draw, of, ratio, generator) for draws, ratio in zip(drawn, ratios, strict=True) for draw in draws]
    thresholds, accepts = zip(*curves, strict=True)
    return Naming(shots, CHANCES, thresholds, accepts, tuple(ratios), _weights(asked))


class Draw(NamedTuple):
    """Some images of each class are enrolled."""

    columns: Ints
    """The classes that have so many, `[classes]`."""
    scores: Floats
    """Of each item with their prototypes, `[n, classes]`."""
    own: Ints
    """The column of each item's class, `[n]`; -1 where it has none."""
    enrolled: NDArray[np.bool_]
    """Which items are enrolled, `[n]`."""


def _draw(x: Floats, y: Floats, labels: Ints, shots: int, generator: np.random.Generator) -> Draw:
    order = np.lexsort([generator.random(len(labels)), labels])
    sizes = np.bincount(labels)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = order[(place < shots) & (sizes[labels[order]] > shots)]
    columns, vectors = prototypes(y[rows], labels[rows])
    enrolled = np.zeros(len(labels), np.bool_)
    enrolled[rows] = True
    return Draw(columns, x @ vectors.T, positions(labels, columns), enrolled)


def _some(labels: Ints, generator: np.random.Generator) -> Ints:
    """The rows of as many classes, drawn, as `CELLS` allows."""
    names, of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = generator.permutation(len(names))
    fits = np.cumsum(sizes[order]) * np.arange(1, len(names) + 1) <= CELLS
    return np.flatnonzero(np.isin(of, order[: max(FEWEST, int(fits.sum()))]))


def _curve(draws: Sequence[Draw], labels: Ints) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The thresholds of `CHANCES`, as far as they are told, for classes with so many images; and their K."""
    scores, columns = draws[0].scores, draws[0].columns
    strangers = scores[labels[:, None] != columns]
    edges = np.unique(np.quantile(strangers, 1 - np.geomspace(0.95, 10 / scores.size, POINTS)))
    drawn = [
        _chances(np.where(labels[:, None] == columns, -np.inf, each.scores), labels, columns, edges) for each in draws
    ]
    chance, without = (np.mean(each, axis=0) for each in zip(*drawn, strict=True))
    classes = without.shape[1]
    known = chance**2 / np.maximum((classes - 1) * without.var(axis=1), 1e-30)
    told = (known >= TOLD) & (chance > 0) & (chance < 1)
    if not told.any():
        return (), ()
    edges, known, logs = edges[told], known[told], np.log(chance[told])
    at = np.log([each for each in CHANCES if logs[0] >= np.log(each) >= logs[-1]])
    return tuple(np.interp(-at, -logs, edges).tolist()), tuple(np.exp(np.interp(-at, -logs, np.log(known))).tolist())


def _chances(
    scores: Floats, labels: Ints, columns: Ints, edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean over ordered pairs of classes of the share that scores at least each edge, `[edges]`, and the same
    without each class, `[edges, classes]`; `labels` ascend from 0."""
    classes, enrolled = int(labels[-1]) + 1, len(columns)
    starts, sizes = np.flatnonzero(np.diff(labels, prepend=-1)), np.bincount(labels)[:, None]
    has = np.isin(np.arange(classes), columns)
    pairs = classes * enrolled - enrolled
    left = pairs - enrolled - has * (classes - 2)
    chance, without = np.empty(len(edges)), np.empty((len(edges), classes))
    for i, edge in enumerate(edges):
        share = np.add.reduceat(scores >= edge, starts, axis=0, dtype=np.float64) / sizes
        total, enrol = share.sum(), np.zeros(classes)
        enrol[columns] = share.sum(axis=0)
        chance[i], without[i] = total / pairs, (total - share.sum(axis=1) - enrol) / left
    return chance, without


def _ratio(draws: Sequence[Draw], labels: Ints) -> tuple[float, float]:
    """The line $\\lambda$: at the cosines -1 and 1."""
    weights = np.zeros((2, 2 * WIDTH + 1))
    for each in draws:
        known = np.flatnonzero((each.own >= 0) & ~each.enrolled)
        others = labels[:, None] != each.columns
        shares = np.broadcast_to(1 / np.bincount(labels)[labels][:, None], others.shape)[others]
        weights[1] += _binned(each.scores[known, each.own[known]], _halves(labels[known]))
        weights[0] += _binned(each.scores[others], ODDS * shares / (2 * shares.sum()))
    cosines = np.tile(np.arange(-WIDTH, WIDTH + 1) / WIDTH, 2)[:, None]
    constant, slope = _logistic(cosines, np.repeat([0, 1], 2 * WIDTH + 1), weights.ravel())
    constant += np.log(ODDS)
    return float(constant - slope), float(constant + slope)


def _binned(scores: Floats, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    bins = np.rint((scores + 1) * WIDTH).astype(np.int64).clip(0, 2 * WIDTH)
    return np.bincount(bins, weights, 2 * WIDTH + 1).astype(np.float64)


Asked = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Features `[n, 2]`, whether the closest class is right, weights."""


def _asked(draw: Draw, labels: Ints, ratio: tuple[float, float], generator: np.random.Generator) -> Asked:
    """What is known of a name, and whether it is right, in galleries of several sizes; strangers weigh a half."""
    found: list[Asked] = []
    sizes = [size for size in SIZES if size <= 0.6 * len(draw.columns)]
    for size in sizes:
        repeats = max(1, 40 // size)
        for _ in range(repeats):
            some = generator.permutation(len(draw.columns))[:size]
            inside = np.isin(draw.own, some)
            known = np.flatnonzero(inside & ~draw.enrolled)
            strangers = generator.permutation(np.flatnonzero(~inside))[:STRANGERS]
            scores = draw.scores[np.concatenate([known, strangers])][:, some]
            right = some[scores.argmax(axis=1)[: len(known)]] == draw.own[known]
            found.append(
                (
                    features(scores, np.full((size, 2), ratio)),
                    np.append(right, np.zeros(len(strangers))),
                    np.append(_halves(labels[known]), _halves(labels[strangers])) / repeats,
                )
            )
    x, right, weights = (np.concatenate(each) for each in zip(*found, strict=True))
    return x, right, weights


def _weights(asked: Sequence[Asked]) -> tuple[float, float, float]:
    x, right, weights = (np.concatenate(each) for each in zip(*asked, strict=True))
    constant, odds, classes = _logistic(x, right, weights)
    return constant, odds, classes


def _halves(labels: Ints) -> NDArray[np.float64]:
    """Weights of items that sum to a half, each class the same."""
    weights = 1 / np.bincount(labels)[labels]
    return np.asarray(weights / (2 * weights.sum()), np.float64)


def _logistic(x: NDArray[Any], right: NDArray[Any], weights: NDArray[np.float64]) -> list[float]:
    """The constant and the coefficients of the logistic regression with the least log loss; that of what is separable
    is kept finite."""
    x = np.column_stack([np.ones(len(x)), x]).astype(np.float64)
    weights = weights / weights.sum()

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = x @ line
        value = weights @ (np.logaddexp(0, odds) - right * odds) + 1e-7 * line @ line
        return float(value), x.T @ (weights * (expit(odds) - right)) + 2e-7 * line

    return [float(each) for each in minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS").x]
