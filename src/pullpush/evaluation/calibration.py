r"""What scores mean, fitted on items of classes that were not trained on: a `Decision`.

Pairs of one class and of different ones are weighted to be as many, so the fit is that of the ratio of likelihoods, and
the prior is left to whoever asks (Brümmer and du Preez, Application-independent Evaluation of Speaker Detection, 2006).
Two fits are compared by the log loss on classes that they have not seen, over folds of the classes: logistic regression
(Platt 1999), a straight line of the log odds over the cosine, and isotonic regression (Zadrozny and Elkan 2002), any
rising line.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from pullpush.encoders.decision import PRIOR, TOLD, Decision
from pullpush.errors import UserError
from pullpush.evaluation.evaluate import sides
from pullpush.evaluation.pairs import SIZE, cosine
from pullpush.evaluation.ranks import Side
from pullpush.evaluation.streaming import Plan, stream
from pullpush.evaluation.verification import pairs_of

__all__ = ["Reliability", "fit_decision", "reliability"]

FOLDS = 5
FEWEST = 10
"""Classes with at least two items, below which nothing is fitted: two in each fold."""

MOST = 10_000
"""Items that are looked at, of a draw of the classes."""

BIN = 1 << 8
"""Places that make a bin of the fit: 0.0005 of the cosine."""

ALL = Plan(0, None, np.empty(0, np.int64))

Floats = NDArray[np.float64]


class Scores(NamedTuple):
    """Cosines, and how many pairs of one class and of different ones have each; float64 `[n]`, ascending."""

    cosines: Floats
    same: Floats
    different: Floats


def fit_decision(
    embeddings: Any, labels: Any, ids: Any = None, *, gallery: Any = None, seed: int = 0
) -> Decision | None:
    """How cosines of these embeddings are read.

    Args:
        embeddings: `[n, dim]`, of classes that the model was not trained on.
        labels: int `[n]`, or names.
        ids: int or names `[n]`; a repeated id is the same item listed twice and counts once.
        gallery: `[n, dim]`, the same items as they are embedded in a gallery, where that is another way.
        seed: of the folds, and of the draw of classes where there are more than 10,000 items.

    Returns:
        None with fewer than ten classes of two items, from which nothing is learned.

    Raises:
        UserError: for what `evaluate` refuses of embeddings, labels and ids.
    """
    items, others = _items(embeddings, labels, ids, gallery)
    names, of_item, sizes = np.unique(items.labels, return_inverse=True, return_counts=True)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(names))
    kept = order[: max(FEWEST, int(np.searchsorted(np.cumsum(sizes[order]), MOST)))]
    # classes of several items first, so that each fold has as many of them
    kept = kept[np.argsort(sizes[kept] < 2, kind="stable")]
    if np.count_nonzero(sizes[kept] > 1) < FEWEST:
        return None
    fold = np.full(len(names), -1)
    fold[kept] = np.arange(len(kept)) % FOLDS
    parts = fold[of_item]
    try:
        folds = [
            (_scores(items, others, (parts >= 0) & (parts != k)), _scores(items, others, parts == k))
            for k in range(FOLDS)
        ]
        scores = _scores(items, others, parts >= 0)
    except UserError:  # items that are listed twice leave no pair in a fold
        return None
    losses = {name: _mean_loss(fit, folds) for name, fit in FITS.items()}
    method = min(losses, key=lambda name: losses[name])
    knots, ratios = FITS[method](scores)
    thresholds, fars = _tail(scores)
    return Decision(
        method=method,
        scores=tuple(knots.tolist()),
        log_ratios=tuple(ratios.tolist()),
        thresholds=tuple(thresholds.tolist()),
        fars=tuple(fars.tolist()),
        classes=len(kept),
        positives=int(scores.same.sum()),
        negatives=int(scores.different.sum()),
        losses=losses,
    )


def _items(embeddings: Any, labels: Any, ids: Any, gallery: Any) -> tuple[Side, Side]:
    """The items, and the same as they are in a gallery; each with an id."""
    ids = np.arange(len(labels)) if ids is None else ids
    if gallery is None:
        return sides(embeddings, labels, ids, None, None, None)
    return sides(embeddings, labels, ids, gallery, labels, ids)


def _scores(items: Side, others: Side, rows: NDArray[np.bool_]) -> Scores:
    """Of all pairs of these items."""
    part = _some(items, rows)
    counts = stream(pairs_of(part, part if others is items else _some(others, rows)), ALL)
    starts = np.arange(0, SIZE, BIN)
    same, different = (
        np.add.reduceat(-np.diff(each), starts).astype(np.float64) for each in (counts.same, counts.above)
    )
    some = np.flatnonzero(same + different)
    return Scores(cosine(np.minimum(starts[some] + BIN // 2, SIZE - 1)), same[some], different[some])


def _some(side: Side, rows: NDArray[np.bool_]) -> Side:
    assert side.ids is not None
    return Side(side.embeddings[rows], side.labels[rows], side.ids[rows])


def _weights(scores: Scores, prior: float = PRIOR) -> tuple[Floats, Floats]:
    """Of the pairs of one class, which have the share `prior` of all, and of different ones."""
    return prior * scores.same / scores.same.sum(), (1 - prior) * scores.different / scores.different.sum()


def logistic(scores: Scores) -> tuple[Floats, Floats]:
    """Cosines and log ratios of the straight line with the least log loss."""
    same, different = _weights(scores)
    centre = float(same @ scores.cosines + different @ scores.cosines)
    x = scores.cosines - centre

    def loss(line: Floats) -> tuple[float, Floats]:
        ratio = line[0] + line[1] * x
        slope = different / (1 + np.exp(-ratio)) - same / (1 + np.exp(ratio))
        value = same @ np.logaddexp(0, -ratio) + different @ np.logaddexp(0, ratio)
        return float(value), np.array([slope.sum(), slope @ x])

    # the slope is bounded where the classes lie apart: 1,000 goes from one answer to the other within 0.01
    found = minimize(loss, np.array([0.0, 10.0]), jac=True, method="L-BFGS-B", bounds=[(-50, 50), (0, 1000)])
    knots = np.array([-1.0, 1.0])
    return knots, found.x[0] + found.x[1] * (knots - centre)


def isotonic(scores: Scores) -> tuple[Floats, Floats]:
    """Cosines and log ratios of the rising line with the least log loss (and the least squares)."""
    same, different = (each.copy() for each in _weights(scores))
    # an imagined pair of one class at the lower end and of different ones at the upper: no ratio is infinite
    same[0] += 0.5 / scores.same.sum()
    different[-1] += 0.5 / scores.different.sum()
    weight = same + different
    share = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores.cosines, same / weight, sample_weight=weight)
    # of each step its middle, by weight: straight lines between them
    starts = np.flatnonzero(np.diff(share, prepend=-1.0) > 0)
    knots = np.add.reduceat(weight * scores.cosines, starts) / np.add.reduceat(weight, starts)
    level = np.clip(share[starts], 1e-9, 1 - 1e-9)
    ratios = np.log(level / (1 - level))
    if len(knots) == 1:
        knots, ratios = np.array([-1.0, 1.0]), np.repeat(ratios, 2)
    return knots, ratios


FITS: dict[str, Callable[[Scores], tuple[Floats, Floats]]] = {"logistic": logistic, "isotonic": isotonic}


def _mean_loss(fit: Callable[[Scores], tuple[Floats, Floats]], folds: list[tuple[Scores, Scores]]) -> float:
    """Log loss of the pairs among classes left out, at equal weights of both kinds of pairs, in nats."""
    losses = []
    for rest, left_out in folds:
        ratio = np.interp(left_out.cosines, *fit(rest))
        same, different = _weights(left_out)
        losses.append(same @ np.logaddexp(0, -ratio) + different @ np.logaddexp(0, ratio))
    return float(np.mean(losses))


def _tail(scores: Scores) -> tuple[Floats, Floats]:
    """Thresholds, ascending, and the false accept rate of each, down to the smallest that the pairs can tell."""
    reached = scores.different[::-1].cumsum()[::-1]
    total = reached[0]
    at = np.unique(np.searchsorted(-reached, -np.geomspace(total, min(TOLD, total), 80)).clip(max=len(reached) - 1))
    at = at[reached[at] >= min(TOLD, total)]
    edges = scores.cosines[at] - BIN / 2 * 2.0**-19
    return edges, reached[at] / total


class Reliability(NamedTuple):
    """Probabilities in bins; float64 `[bins]`, NaN of an empty one."""

    predicted: Floats
    """Their mean."""
    observed: Floats
    """The share of pairs of one class."""
    weight: Floats
    """The share of all pairs, weighted; sums to 1."""
    pairs: Floats
    """How many there are, as they are."""

    @property
    def error(self) -> float:
        r"""The calibration error $\sum_b w_b |\text{observed}_b - \text{predicted}_b|$ (Naeini et al., AAAI 2015)."""
        return float(np.nansum(self.weight * np.abs(self.observed - self.predicted)))


def reliability(
    decision: Decision,
    embeddings: Any,
    labels: Any,
    ids: Any = None,
    *,
    gallery: Any = None,
    bins: int = 10,
    prior: float = PRIOR,
) -> Reliability:
    """How the probabilities of a decision hold on other items: all pairs, weighted to the prior.

    Args:
        decision: fitted on other classes.
        embeddings, labels, ids, gallery: as of `fit_decision`.
        bins: of equal width, from 0 to 1.
        prior: the share of pairs of one class, as of `Decision.probability`; 0.5: both kinds are as many.

    Raises:
        UserError: as `verify`, and for a prior out of its bounds.
    """
    items, others = _items(embeddings, labels, ids, gallery)
    scores = _scores(items, others, np.ones(len(items.labels), np.bool_))
    same, different = _weights(scores, prior)
    weight, found = same + different, decision.probability(scores.cosines, prior)
    bin_ = np.minimum((found * bins).astype(np.int64), bins - 1)
    total, positive, mean = (np.bincount(bin_, each, minlength=bins) for each in (weight, same, weight * found))
    pairs = np.bincount(bin_, scores.same + scores.different, minlength=bins).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Reliability(mean / total, positive / total, np.asarray(total, np.float64), pairs)
