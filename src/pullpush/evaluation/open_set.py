"""Who is this, or nobody: identification on classes that were never trained on, with part of them enrolled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pullpush.errors import UserError
from pullpush.evaluation.classes import RULE, Closest, Rule, closest_classes
from pullpush.evaluation.evaluate import sides
from pullpush.evaluation.knn import Floats, Ints
from pullpush.evaluation.ranks import TIE, Side, unique_rows
from pullpush.evaluation.verification import named
from pullpush.evaluation.votes import knn_accuracy

__all__ = ["FARS", "SHOTS", "Identification", "Rate", "detection_rate", "identification", "naming", "threshold_at"]

SHOTS, FARS = (1, 5), (1e-1, 1e-2)
RESAMPLES = 200
"""Resamplings of the classes, of which the intervals are."""


class Rate(NamedTuple):
    """A share, and the interval of 95% that it owes to the choice of classes; NaN where it cannot be told."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Identification:
    """How well queries are given their class with `shots` enrolled images a class, the mean over draws of these.

    Attributes:
        shots: enrolled images a class.
        accuracy: with all classes enrolled, the share of the other images whose closest class is their own (few-shot
            accuracy).
        detected: with part of the classes enrolled, the detection and identification rate at each false accept rate.
        classes: those with more than `shots` images, which can be enrolled.
        draws: of the enrolled images, and of the enrolled classes.
    """

    shots: int
    accuracy: Rate
    detected: dict[float, Rate]
    classes: int
    draws: int

    def values(self) -> dict[str, Any]:
        """For metrics.json and `--json`: `accuracy`, `dir@far=1e-2` and so on, each with its `/interval`."""
        rates = {
            "accuracy": self.accuracy,
            **{named("dir", far): r for far, r in self.detected.items()},
        }
        pairs = (
            (f"{name}{tail}", value)
            for name, r in rates.items()
            for tail, value in (("", r.value), ("/interval", [r.low, r.high]))
        )
        return {
            "shots": self.shots,
            "classes": self.classes,
            "draws": self.draws,
            **{name: _known(value) for name, value in pairs},
        }


def identification(
    embeddings: Any,
    labels: Any,
    ids: Any = None,
    *,
    shots: Sequence[int] = SHOTS,
    fars: Sequence[float] = FARS,
    enrolled: float = 0.5,
    draws: int = 10,
    rule: Rule = RULE,
    seed: int = 0,
) -> list[Identification]:
    r"""Few-shot accuracy, and open-set identification, of embeddings of classes that were never trained on.

    Two questions, of the same seeded draws of `shots` images a class:

    - all classes are enrolled, the other images ask (closed set): the share that is given its class, `accuracy`;
    - part of the classes is enrolled; their other images ask (mated searches), and all images of the other classes
      (non-mated searches), which are to be answered 'unknown'. The false accept rate is the share of the latter whose
      closest class scores above a threshold, the detection and identification rate the share of the former whose
      closest class is the right one, and above it (Phillips, Grother, Micheals 2011, Evaluation methods in face
      recognition, section 3; 1 - FNIR at rank 1 and FPIR of ISO/IEC 19795-1).

    An item is one image by its id. Classes that are tied for the closest share the answer, and what is tied with the
    threshold is not above it. A rate at a false accept rate below one in the number of non-mated searches is NaN.
    Intervals are 2.5% and 97.5% of resamplings of the classes.

    Args:
        embeddings: `[n, dim]`, numpy or torch.
        labels: int `[n]`, or names.
        ids: int or names `[n]`; a repeated id is the same item, and counts once.
        shots: enrolled images a class, for each of which the classes with more images count.
        fars: false accept rates, above 0 and below 1.
        enrolled: share of the classes that is enrolled in the second question.
        draws: seeded draws.
        rule: the score of a class, see `closest_classes`.
        seed: of the draws and the resamplings.

    Returns:
        One for each of `shots` that leaves at least two classes.

    Raises:
        UserError: NaN embeddings, lengths that differ, an option out of its bounds, no two classes with enough images.
    """
    if not shots or min(shots) < 1 or draws < 1 or not 0 < enrolled < 1:
        raise UserError(f"shots {tuple(shots)}, draws {draws}: give at least 1; enrolled {enrolled}: between 0 and 1")
    bad = [far for far in fars if not 0 < far < 1]
    if bad:
        raise UserError(f"a false accept rate is above 0 and below 1, not {bad[0]:g}; 0.01 is one query in a hundred")
    given, _ = sides(embeddings, labels, ids, None, None, None)
    rows = unique_rows(given)
    given = Side(given.embeddings[rows], np.unique(given.labels[rows], return_inverse=True)[1], None)
    sizes = np.bincount(given.labels)
    results = [_measure(given, n, fars, enrolled, draws, rule, seed) for n in shots if (sizes > n).sum() > 1]
    if not results:
        raise UserError(
            f"no two classes have more than {min(shots)} images, of {len(sizes)} classes with {len(rows)}; nobody can "
            "be enrolled and asked for: give classes with more images"
        )
    return results


def naming(embeddings: Any, labels: Any, ids: Any = None) -> dict[str, Any]:
    """How well items are given their class, for metrics.json and `--json`: `knn@k`, and under `identification` what
    `identification` measures, for each number of enrolled images. Empty where no two classes have two items.

    Args:
        embeddings: `[n, dim]`.
        labels: `[n]`.
        ids: `[n]`.
    """
    first = np.arange(len(labels)) if ids is None else np.unique(np.asarray(ids), return_index=True)[1]
    if (np.unique(np.asarray(labels)[first], return_counts=True)[1] > 1).sum() < 2:
        return {}
    votes = {f"knn@{k}": share for k, share in knn_accuracy(embeddings, labels, ids).items()}
    return {**votes, "identification": [each.values() for each in identification(embeddings, labels, ids)]}


def threshold_at(scores: Floats, far: float, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """The least threshold that at most the share `far` of non-mated searches lies above: one of their scores.

    Args:
        scores: `[n]`, of the closest class of each.
        far: the false accept rate.
        weights: `[k, n]`, how much each counts, for `k` thresholds at once.

    Returns:
        `[k]` (`[1]` without weights); NaN where less than one of the searches may be accepted.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    counts = weights[:, order]
    total = counts.sum(axis=1)
    allowed = far * total * (1 + 1e-12)
    # counts may be 0 at the end: the first of them has all others before it
    above = np.cumsum(counts, axis=1) - counts
    last = (above <= allowed[:, None]).sum(axis=1) - 1
    return (
        np.where(allowed < 1, np.nan, scores[order][np.maximum(last, 0)].astype(np.float64))
        if len(scores)
        else np.full(len(weights), np.nan)
    )


def detection_rate(
    known: Closest,
    unknown: Floats,
    far: float,
    known_weights: NDArray[np.float64] | None = None,
    unknown_weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The share of mated searches whose closest class is theirs, and above the threshold of `far`.

    Args:
        known: of the mated searches `[m]`.
        unknown: scores of the closest class of the non-mated ones `[n]`.
        far: the false accept rate.
        known_weights: `[k, m]`, how much each counts, for `k` rates at once.
        unknown_weights: `[k, n]`.

    Returns:
        `[k]` (`[1]` without weights); NaN where the rate cannot be told.
    """
    threshold = threshold_at(unknown, far, unknown_weights)
    weights = np.ones((1, len(known.right))) if known_weights is None else known_weights
    found = known.right * (known.best > threshold[:, None] + TIE)
    total = weights.sum(axis=1)
    rate = (weights * found).sum(axis=1) / np.where(total > 0, total, np.nan)
    return np.where(np.isnan(threshold), np.nan, rate)


def _measure(
    given: Side, shots: int, fars: Sequence[float], enrolled: float, draws: int, rule: Rule, seed: int
) -> Identification:
    generator = np.random.default_rng([seed, shots])
    classes = np.flatnonzero(np.bincount(given.labels) > shots)
    resampled = generator.multinomial(len(classes), np.full(len(classes), 1 / len(classes)), RESAMPLES).astype(
        np.float64
    )
    weights = np.ones((1 + RESAMPLES, given.labels.max() + 1))
    weights[1:, classes] = resampled
    right = np.zeros((2, given.labels.max() + 1))
    rates: dict[float, list[NDArray[np.float64]]] = {far: [] for far in fars}
    for _ in range(draws):
        chosen = _first_of_each(given.labels, shots, generator)
        gallery = np.flatnonzero(chosen & np.isin(given.labels, classes))
        query = np.flatnonzero(~chosen & np.isin(given.labels, classes))
        closed = _ask(given, query, gallery, rule)
        right += [
            np.bincount(given.labels[query], each, right.shape[1]) for each in (closed.right, np.ones(len(query)))
        ]

        some = generator.permutation(classes)[: max(1, round(enrolled * len(classes)))]
        mated = query[np.isin(given.labels[query], some)]
        others = np.flatnonzero(~np.isin(given.labels, some))
        asked = _ask(given, np.concatenate([mated, others]), gallery[np.isin(given.labels[gallery], some)], rule)
        known = Closest(asked.own[: len(mated)], asked.other[: len(mated)], asked.right[: len(mated)])
        unknown = asked.best[len(mated) :]
        for far, drawn in rates.items():
            drawn.append(
                detection_rate(known, unknown, far, *(weights[:, given.labels[rows]] for rows in (mated, others)))
            )
    accuracy = (weights @ right[0]) / (weights @ right[1])
    detected = {far: _rate(np.mean(drawn, axis=0)) for far, drawn in rates.items()}
    return Identification(shots, _rate(accuracy), detected, len(classes), draws)


def _ask(given: Side, query: Ints, gallery: Ints, rule: Rule) -> Closest:
    x, labels = given.embeddings, given.labels
    return closest_classes(x[query], labels[query], x[gallery], labels[gallery], rule=rule)


def _first_of_each(labels: Ints, count: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """`count` random rows of each class."""
    order = np.lexsort([generator.random(len(labels)), labels])
    starts = np.searchsorted(labels[order], labels[order])
    chosen = np.zeros(len(labels), bool)
    chosen[order[np.arange(len(labels)) - starts < count]] = True
    return chosen


def _rate(values: NDArray[np.float64]) -> Rate:
    """The first is the rate, the others those of the resamplings."""
    if np.isnan(values[0]) or np.isnan(values[1:]).mean() > 0.5:
        return Rate(float(values[0]), np.nan, np.nan)
    return Rate(float(values[0]), *(float(each) for each in np.nanquantile(values[1:], [0.025, 0.975])))


def _known(value: Any) -> Any:
    """NaN is no JSON: None."""
    return [_known(each) for each in value] if isinstance(value, list) else value if value == value else None
