"""From tensors to measures."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from torch import Tensor

from pullpush.doctor.finding import Measures, Objective
from pullpush.maths import health
from pullpush.maths.pairs import Pairs, Relation, equal, make_pairs
from pullpush.maths.similarity import cosine
from pullpush.maths.triples import violations

__all__ = [
    "LOSS_WINDOW",
    "RESULTS",
    "SIDES",
    "WHEN",
    "measure_cells",
    "measure_course",
    "measure_duplicates",
    "measure_queries",
    "measure_result",
    "measure_sides",
]

# What embeddings are of: one modality, or two.
SIDES = ("embeddings", "image", "text")
# What weights are chosen by, the first that there is; and the metric that people know.
RESULTS, WHEN = ("text_to_image/recall@1", "map@r", "recall@1"), ("before", "after")
# Losses that are averaged before one is compared with a floor: batches differ.
LOSS_WINDOW = 10
# Looks whose recall is averaged.
LOOK_WINDOW = 3


def measure_sides(sides: Mapping[str, Tensor]) -> Measures:
    """Of the embeddings [n, dim] of one modality, or of two ("image", "text"), a row an item."""
    found = Measures()
    for side, x in sides.items():
        finite = x.isfinite().all(1)
        found[f"{side}/not_finite"] = float((~finite).sum())
        x = x[finite]
        if not len(x):
            continue
        found[f"{side}/items"], found[f"{side}/dim"] = float(len(x)), float(x.shape[1])
        found[f"{side}/mean_cosine"] = health.mean_cosine(x)
        found[f"{side}/effective_rank"] = health.effective_rank(x)
        found[f"{side}/dead_dimensions"] = float(health.dead_dimensions(x))
        found[f"{side}/dominating_share"] = health.dominating_share(x)
        found[f"{side}/norm_error"] = health.largest_norm_error(x)
    if len(sides) == 2:
        x, y = (x[x.isfinite().all(1)] for x in sides.values())
        if len(x) and len(y):
            found["modality_gap"] = health.modality_gap(x, y)
            found["closest_cosine"] = max(found[f"{side}/mean_cosine"] for side in sides)
    return found


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
    found = Measures(cells._asdict())
    if mined is not None:
        found["mined"] = float((mined.positive | mined.negative).any(1).double().mean())
    margin, temperature = objective.option("margin"), objective.option("temperature")
    if objective.loss == "triplet" and margin is not None:
        _, number, listed = violations(similarity.detach(), *pairs, float(margin))
        found["margin"], found["triplets"] = float(margin), float(listed.sum())
        found["active_triplets"] = float(number.sum() / listed.sum()) if listed.sum() else math.nan
    if objective.softmax and temperature:
        # As many classes as the negatives are, in groups of the size of the anchor's own.
        own = float(pairs.positive.sum(1).double().mean()) + itself
        found["temperature"] = float(temperature)
        found["floor"] = health.n_pair_floor(1 + cells.negatives / max(own, 1.0), cells.negatives, float(temperature))
        found["chance"] = health.n_pair_chance(cells.negatives)
        found["effective_negatives"] = health.effective_negatives(similarity, pairs.negative, float(temperature))
    return found


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


def measure_course(
    looks: Sequence[Mapping[str, float]],
    losses: Sequence[float],
    validations: Sequence[tuple[int, float]] = (),
    classes: float = math.nan,
) -> Measures:
    """Of a run so far: the last look, and what changed since the first.

    Args:
        looks: measures at some steps, in order, each with its "step".
        losses: of all steps.
        validations: step and recall@1 on the validation classes.
        classes: of the validation: a recall over few is a rough number.
    """
    found = Measures(looks[-1]) if looks else Measures()
    if losses:
        found["loss"] = fmean(losses[-LOSS_WINDOW:])
        found["first_loss"] = fmean(losses[:LOSS_WINDOW])
        found["lowest_loss"] = min(fmean(losses[i : i + LOSS_WINDOW]) for i in range(0, len(losses), LOSS_WINDOW))
    for name in ("effective_negatives", *(f"{side}/mean_cosine" for side in SIDES)):
        if looks and name in looks[0]:
            found[f"first_{name}"] = looks[0][name]
    for name, gone in (("active_triplets", "looks_without_active"), ("mined", "looks_without_mined")):
        seen = [look[name] for look in looks if name in look]
        found[gone] = float(next((i for i, value in enumerate(reversed(seen)) if value > 0), len(seen)))
    found |= _measure_all_duplicates(looks)
    # 2 - 2 cos is the squared distance of unrelated items.
    drifts = [
        look["memory_drift"] / max(2 - 2 * look["negative"], 1e-6)
        for look in looks
        if "memory_drift" in look and "negative" in look
    ]
    if len(drifts) > 1:
        found["lasting_drift"] = min(drifts[-2:])
    ratios = [look["update_ratio"] for look in looks if "update_ratio" in look]
    if ratios:
        found["largest_update_ratio"] = max(ratios)
        lengths = [name for name in looks[0] if name.startswith("weight_norm/") and looks[0][name] > 0]
        found["weight_growth"] = max((looks[-1].get(name, 0.0) / looks[0][name] for name in lengths), default=math.nan)
    if validations:
        found |= _measure_validation(looks, validations, classes)
    return found


def _measure_all_duplicates(looks: Sequence[Mapping[str, float]]) -> Measures:
    """The share in all that was looked at, and twice its standard error: one batch says little."""
    seen = [
        (look["duplicates"], max(look.get(f"{side}/items", 0.0) for side in SIDES))
        for look in looks
        if "duplicates" in look
    ]
    total = sum(items for _, items in seen)
    if not total:
        return Measures()
    share = sum(share * items for share, items in seen) / total
    return Measures(duplicates=share, duplicates_error=2 * math.sqrt(share * (1 - share) / total))


def _measure_validation(
    looks: Sequence[Mapping[str, float]], validations: Sequence[tuple[int, float]], classes: float
) -> Measures:
    best_step, best = max(validations, key=lambda each: each[1])
    last_step, found = validations[-1][0], Measures()
    found["best_validation_step"], found["best_validation_recall"] = float(best_step), best
    # The better of the last two: one bad validation is no trend.
    found["validation_recall"] = max(recall for _, recall in validations[-2:])
    # Standard error of a share, one success and one failure added, so that it is not 0 for all of few.
    share = (best * classes + 1) / (classes + 2)
    found["validation_error"] = math.sqrt(share * (1 - share) / (classes + 2))
    for name, step in (("training_recall_at_best", best_step), ("training_recall", last_step)):
        near = [look["nearest"] for look in looks if "nearest" in look and look["step"] <= step][-LOOK_WINDOW:]
        found[name] = fmean(near) if near else math.nan
    return found
