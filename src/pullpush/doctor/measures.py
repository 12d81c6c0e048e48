"""From tensors, tables and metrics to measures: what findings are made of."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from pullpush.doctor.objective import Objective
from pullpush.maths import health
from pullpush.maths.losses.triplet import triplet
from pullpush.maths.pairs import Pairs, Relation, equal, make_pairs
from pullpush.maths.similarity import cosine
from pullpush.maths.triplets import violations

__all__ = [
    "RESULTS",
    "SIDES",
    "WHEN",
    "Measures",
    "measure_cells",
    "measure_duplicates",
    "measure_metrics",
    "measure_queries",
    "measure_result",
    "measure_sides",
]

# What embeddings are of: one modality, or two.
SIDES = ("embeddings", "image", "text")
# What weights are chosen by, the first that there is; and the metric that people know.
RESULTS, WHEN = ("text_to_image/recall@1", "map@r", "recall@1"), ("before", "after")


class Measures(dict[str, float]):
    """Numbers by name. What was not measured is NaN, which no threshold is above or below."""

    def __missing__(self, name: str) -> float:
        return math.nan

    def some(self, *names: str) -> dict[str, float]:
        """Those of these names that were measured."""
        return {name: self[name] for name in names if name in self}


def measure_sides(sides: Mapping[str, Tensor]) -> Measures:
    """Of the embeddings [n, dim] of one modality, or of two ("image", "text"), a row an item."""
    measures = Measures()
    for side, x in sides.items():
        finite = x.isfinite().all(1)
        measures[f"{side}/not_finite"] = float((~finite).sum())
        x = x[finite]
        if not len(x):
            continue
        measures[f"{side}/items"], measures[f"{side}/dim"] = float(len(x)), float(x.shape[1])
        measures[f"{side}/mean_cosine"] = health.mean_cosine(x)
        measures[f"{side}/effective_rank"] = health.effective_rank(x)
        measures[f"{side}/dead_dimensions"] = float(health.dead_dimensions(x))
        measures[f"{side}/dominating_share"] = health.dominating_share(x)
        measures[f"{side}/norm_error"] = health.largest_norm_error(x)
    if len(sides) == 2:
        x, y = (x[x.isfinite().all(1)] for x in sides.values())
        if len(x) and len(y):
            measures["modality_gap"] = health.modality_gap(x, y)
            measures["closest_cosine"] = max(measures[f"{side}/mean_cosine"] for side in sides)
    return measures


def measure_cells(
    similarity: Tensor, pairs: Pairs, objective: Objective, *, mined: Pairs | None = None, itself: bool = False
) -> Measures:
    """Of a batch's rectangle.

    Args:
        similarity: [anchors, references], the one that the loss sees.
        pairs: masks, before the miner.
        mined: masks after it.
        itself: the references are the anchors.
    """
    cells = health.cell_health(similarity, pairs)
    measures = Measures(cells._asdict())
    if mined is not None:
        measures["mined"] = float((mined.positive | mined.negative).any(1).double().mean())
    margin, temperature = objective.option("margin"), objective.option("temperature")
    if objective.loss is not None and objective.loss.made_by(triplet):
        _, number, listed = violations(similarity.detach(), *pairs, float(margin))
        measures["margin"], measures["triplets"] = float(margin), float(listed.sum())
        measures["active_triplets"] = float(number.sum() / listed.sum()) if listed.sum() else math.nan
    if objective.softmax and temperature:
        # As many classes as the negatives are, in groups of the size of the anchor's own.
        own = float(pairs.positive.sum(1).double().mean()) + itself
        measures["temperature"] = float(temperature)
        measures["floor"] = health.n_pair_floor(
            1 + cells.negatives / max(own, 1.0), cells.negatives, float(temperature)
        )
        measures["chance"] = health.n_pair_chance(cells.negatives)
        measures["effective_negatives"] = health.effective_negatives(similarity, pairs.negative, float(temperature))
    return measures


def measure_duplicates(sides: Iterable[tuple[Tensor, Tensor, Tensor]], relation: Relation = equal) -> Measures:
    """Share of items with an equal one of another class, on the worse side.

    Args:
        sides: embeddings [n, dim], labels, ids.
        relation: labels to positives.
    """
    shares = [
        health.duplicate_share(cosine(x, x), make_pairs(labels, ids, labels, ids, relation).negative)
        for x, labels, ids in sides
    ]
    return Measures(duplicates=max(shares))


def measure_queries(items: Any, texts: Any = None, by: str = "label") -> Measures:
    """How many queries an evaluation has, and the share of them that have a positive.

    Args:
        items: the table of the test items (a frame with `label`, `id`, `role`).
        texts: where images are searched by text, the table of the texts (`label`); these are then the queries.
        by: what a text's label is: the column `label` or `id` of the items.
    """
    queries = items[items["role"] != "gallery"] if texts is None else texts
    if not len(queries):
        return Measures()
    counts = items[items["role"] != "query"][by if texts is not None else "label"].value_counts()
    itself = 0 if texts is not None else queries["role"].eq("both")
    positives = queries["label"].map(counts).fillna(0) - itself
    return Measures(queries=float(len(queries)), queries_with_positive=float((positives > 0).mean()))


def measure_result(test: Mapping[str, Mapping[str, float]]) -> Measures:
    """Of the metrics on the test classes, before and after training."""
    return Measures(
        {f"{name}_{when}": test[when][name] for name in RESULTS for when in WHEN if name in (test.get(when) or {})}
    )


def measure_metrics(metrics: Mapping[str, Any]) -> Measures:
    """Of metrics.json: the test before and after training, and the gain on the validation classes."""
    return Measures(_measure_gain(metrics) | measure_result(metrics.get("test") or {}))


def _measure_gain(metrics: Mapping[str, Any]) -> Measures:
    """What the trained weights find more than the untrained model on the validation classes."""
    gain = metrics.get("gain")
    if not gain:
        return Measures()
    names = {"start": "score_untrained", "trained": "score_trained", "difference": "gain", "error": "gain_error"}
    kept = {"gain_shown": float(gain["shown"]), "start_kept": float(metrics["kept"] == "start")}
    return Measures({name: gain[key] for key, name in names.items()} | kept)
