r"""Same or different: how well a threshold on the cosine tells pairs of one class from all others.

A threshold accepts all pairs whose cosine reaches it. With $P$ pairs of one class and $N$ of different ones,

$$\mathrm{TAR}(t) = \frac{1}{P} |\{\text{same}: s \ge t\}|, \qquad
\mathrm{FAR}(t) = \frac{1}{N} |\{\text{different}: s \ge t\}|$$

are the true and the false accept rate, $\mathrm{FRR} = 1 - \mathrm{TAR}$ the false reject rate. The curve of TAR over
FAR is the ROC, that of FRR over FAR the DET curve (Martin et al., The DET Curve in Assessment of Detection Task
Performance, Eurospeech 1997).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pullpush.errors import UserError
from pullpush.evaluation import knn, rates
from pullpush.evaluation.evaluate import column_of
from pullpush.evaluation.evaluate import sides as sides_of
from pullpush.evaluation.knn import Ints
from pullpush.evaluation.pairs import SIZE, Sides, cosine
from pullpush.evaluation.ranks import Side, unique_rows
from pullpush.evaluation.resampling import intervals
from pullpush.evaluation.streaming import Plan, stream

__all__ = ["FARS", "Verification", "named", "pairs_of", "verify"]

FARS = (1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        metrics: fractions: `eer`, and for each rate `tar@far=1e-3` and so on: the largest true accept rate of a
            threshold whose false accept rate is at most that. NaN where that rate of the pairs of different classes is
            fewer than 10 of them: too few to tell.
        thresholds: cosines, by the same names: of `eer` the least with FAR <= FRR; of the others the cosine of the last
            pair that is accepted (above 1 where none is).
        intervals: by the same names, the low and the high end, by resampling classes.
        curve: a row a threshold, ascending: `threshold`, `far`, `tar`, at some of the thresholds.
        histogram: a row a bin of cosines: `low`, `high`, `same`, `different`: shares of the pairs. Of more than 17
            million pairs, those of different classes that do not reach the threshold of the largest rate are estimated
            from a million, here and in `curve`, but those about the equal error rate.
        per_group: a row a group (index: `grouping`, `group`): `items`; `positives` and `negatives`, pairs of one class
            and of different ones with an item of the group; and at the threshold of each rate `tar@far=1e-3` and
            `far@far=1e-3`, the rates among these pairs. None without groups.
        items, classes: how many there are.
        positives, negatives: pairs of one class, and of different ones.
    """

    metrics: dict[str, float]
    thresholds: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    curve: pd.DataFrame
    histogram: pd.DataFrame
    per_group: pd.DataFrame | None
    items: int
    classes: int
    positives: int
    negatives: int

    def values(self) -> dict[str, Any]:
        """As JSON has it, flat: `eer`, `eer_low`, `eer_high`, `threshold` (of the EER), `tar@far=1e-3`, ..._low,
        ..._high, `threshold@far=1e-3`, `items`, ...; None for what can't be told."""
        found: dict[str, Any] = {}
        for name, value in self.metrics.items():
            low, high = self.intervals[name]
            of = "threshold" + name.removeprefix("eer").removeprefix("tar")
            found |= {name: value, f"{name}_low": low, f"{name}_high": high, of: self.thresholds[name]}
        found = {name: None if math.isnan(value) else value for name, value in found.items()}
        return found | {name: getattr(self, name) for name in ("items", "classes", "positives", "negatives")}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4f}" for name, value in self.metrics.items())
        return f"Verification({shown}; {self.positives:,} same and {self.negatives:,} different pairs)"


def verify(
    embeddings: Any,
    labels: Any,
    ids: Any = None,
    *,
    gallery: Any = None,
    gallery_labels: Any = None,
    gallery_ids: Any = None,
    groups: Mapping[str, Any] | None = None,
    gallery_groups: Mapping[str, Any] | None = None,
    fars: Sequence[float] = FARS,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Verification:
    r"""Verification by the cosine, over all n(n - 1) / 2 pairs of items, or all pairs of queries and gallery.

    An item is never compared with itself, by its id. Ties never help: a threshold accepts all pairs at its cosine, and
    cosines are rounded to multiples of 2^-19, since their computation rounds too. The equal error rate is where the DET
    curve, with straight lines between its points, crosses FAR = FRR: 0.5 where all embeddings are equal.

    Pairs of one class are not independent, so intervals are over classes: in each of `replicates` resamples a class $c$
    is drawn $w_c$ times of $C$. Pairs of one class then count $w_c$ times; pairs of two classes $w_c w_d$ times, of
    which the linear part $w_c + w_d - 1$ is kept (Hoeffding's projection), so that counts by class are enough.

    Args:
        embeddings: queries `[n, dim]`, numpy or torch, any float type.
        labels: int `[n]`, or names.
        ids: int or names `[n]`; a repeated id is the same item listed twice and counts once.
        gallery: `[m, dim]`, then `gallery_labels` is needed, and `gallery_ids` if items can be on both sides.
        groups: by the name of a grouping (`category`, `domain`), the group of each query; `gallery_groups` the same of
            the gallery.
        fars: false accept rates, each above 0 and below 1.
        confidence: of the intervals.
        replicates: resamples of the classes; 0 for no intervals.
        seed: of the resamples.

    Returns:
        A `Verification`. Memory is O(items + classes + block); of many pairs it takes little more time than the matrix
        products (`streaming`).

    Raises:
        UserError: for what `evaluate` refuses; fewer than two classes, or no class with two items; rates out of bounds.
    """
    wished = {named("tar", far): far for far in _checked(fars)}
    if not 0 < confidence < 1 or replicates < 0:
        raise UserError(
            f"confidence {confidence}, replicates {replicates}: give one above 0 and below 1, the other at least 0"
        )
    queries, references = sides_of(embeddings, labels, ids, gallery, gallery_labels, gallery_ids)
    sides = pairs_of(queries, references)
    counts, sample = rates.counted(sides, tuple(wished.values()), seed)
    found = {"eer": rates.equal_error(counts)}
    found |= {name: rates.at_rate(counts, far) for name, far in wished.items()}
    metrics = {name: each.value for name, each in found.items()}
    thresholds = {
        name: math.nan if math.isnan(each.value) else float(cosine(each.place)) for name, each in found.items()
    }
    told = {name: each.place for name, each in found.items() if name in wished and not math.isnan(each.value)}
    return Verification(
        metrics=metrics,
        thresholds=thresholds,
        intervals=intervals(counts, metrics, wished, confidence, replicates, seed),
        curve=rates.curve(counts, sample),
        histogram=rates.histogram(counts, sample),
        per_group=_per_group(sides, queries, references, groups, gallery_groups or {}, told) if groups else None,
        items=len(sides.queries),
        classes=sides.classes,
        positives=int(counts.same[0]),
        negatives=int(counts.above[0]),
    )


def named(what: str, far: float) -> str:
    """The name of a metric at a false accept rate: `tar@far=1e-3`."""
    digits, power = f"{far:e}".split("e")
    return f"{what}@far={float(digits):g}e{int(power)}"


def pairs_of(queries: Side, references: Side) -> Sides:
    """The two sides ordered by class, with unit vectors, each item once.

    Raises:
        UserError: no pair of one class, or none of different ones.
    """
    one = references is queries
    rows, labels = _ordered(queries)
    columns, gallery_labels = (rows, labels) if one else _ordered(references)
    known = np.union1d(labels, gallery_labels)
    x = queries.embeddings[rows]
    space = knn.prepare(x, x if one else references.embeddings[columns], "cosine")
    own = np.full(len(rows), -1)
    if queries.ids is not None and references.ids is not None:
        own = knn.positions(queries.ids[rows], references.ids[columns])
    first, last = (np.searchsorted(gallery_labels, labels, side=side) for side in ("left", "right"))
    positives = last - first - ((own >= first) & (own < last))
    if not positives.any():
        raise UserError("no two items are of one class, so nothing is the same; give classes with at least two items")
    if (positives + (own >= 0) == len(columns)).all():
        raise UserError("all items are of one class, so nothing is different; give at least two classes")
    return Sides(
        space.queries,
        space.queries if one else space.gallery,
        np.searchsorted(known, labels),
        np.searchsorted(known, gallery_labels),
        len(known),
        own,
        {},
    )


def _ordered(side: Side) -> tuple[Ints, Ints]:
    """Rows in the order of their classes, each item once, and their labels."""
    rows = unique_rows(side)
    rows = rows[np.argsort(side.labels[rows], kind="stable")]
    return rows, side.labels[rows]


def _per_group(
    sides: Sides,
    queries: Side,
    references: Side,
    groups: Mapping[str, Any],
    gallery_groups: Mapping[str, Any],
    places: Mapping[str, int],
) -> pd.DataFrame:
    """The rates at these thresholds among the pairs with an item of each group; a second pass over the pairs."""
    (rows, _), (columns, _) = _ordered(queries), _ordered(references)
    coded, names = {}, {}
    for grouping, values in groups.items():
        mine = column_of(values, len(queries.labels), f"groups of {grouping!r}")
        if references is queries:
            other = mine
        elif grouping in gallery_groups:
            other = column_of(gallery_groups[grouping], len(references.labels), f"gallery_groups of {grouping!r}")
        else:
            raise UserError(f"groups of {grouping!r} are given for the queries only; give gallery_groups too")
        names[grouping], codes = np.unique(
            np.concatenate([mine[rows], other[columns]]).astype(str), return_inverse=True
        )
        coded[grouping] = codes[: len(rows)], codes[len(rows) :]
    levels = np.unique([min(at, SIZE - 1) for at in places.values()]).astype(np.int64)
    counts = stream(replace(sides, groups=coded), Plan(int(min(levels, default=SIZE - 1)), None, levels))
    frames = []
    for grouping, (same, different) in counts.groups.items():
        mine, other = coded[grouping]
        items = np.bincount(mine, minlength=len(same))
        if references is not queries:  # those on both sides count once
            here = np.setdiff1d(np.arange(len(other)), sides.own)
            items = items + np.bincount(other[here], minlength=len(same))
        frame = {"grouping": grouping, "group": names[grouping], "items": items}
        frame |= {"positives": same[:, 0], "negatives": different[:, 0]}
        for name, at in places.items():
            level = 1 + int(np.searchsorted(levels, at)) if at < SIZE else None
            for each, of in ((f"{name}", same), (f"far{name.removeprefix('tar')}", different)):
                reached = of[:, level] if level is not None else np.zeros(len(of))
                frame[each] = np.where(of[:, 0] > 0, reached / np.maximum(of[:, 0], 1), np.nan)
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames).set_index(["grouping", "group"])


def _checked(fars: Sequence[float]) -> tuple[float, ...]:
    rates = (fars,) if isinstance(fars, int | float) else tuple(fars)
    for far in rates:
        if not 0 < far < 1:
            raise UserError(f"a false accept rate must be above 0 and below 1, not {far!r}: give 0.001, say")
    return tuple(float(far) for far in rates)
