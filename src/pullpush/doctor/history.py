"""A run as its log tells it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from pullpush.doctor.declaration import Finding
from pullpush.doctor.diagnose import examine
from pullpush.doctor.measures import RESULTS, SIDES, Measures
from pullpush.doctor.objective import Objective

__all__ = ["PREFIX", "History", "measure_course", "replay"]

# Before the names of measures in log.jsonl.
PREFIX = "monitor/"
# Where there are two modalities, the direction that a search by words takes.
RECALLS = ("validation/text_to_image/recall@1", "validation/recall@1")
# Losses that are averaged before one is compared with a floor: batches differ.
LOSS_WINDOW = 10
# Looks whose recall is averaged.
LOOK_WINDOW = 3


class History:
    """What the lines of log.jsonl say, in order.

    Args:
        classes: of the validation, where it is known: a recall over few classes is a rough number.

    Attributes:
        kept: step and score of the best validation in training so far, by what weights are chosen by.
    """

    def __init__(self, classes: float = math.nan) -> None:
        self.classes = classes
        self.losses: list[float] = []
        self.looks: list[dict[str, float]] = []
        self.validations: list[tuple[int, float]] = []
        self.kept: tuple[int, float] | None = None

    def add(self, line: Mapping[str, Any]) -> None:
        """A line of the log."""
        if "train/loss" in line:
            self.losses.append(line["train/loss"])
        self.validations += [(line["step"], line[name]) for name in RECALLS if name in line][:1]
        for score in [line[f"validation/{name}"] for name in RESULTS if f"validation/{name}" in line][:1]:
            if line["step"] and (self.kept is None or score > self.kept[1]):
                self.kept = line["step"], score
        seen = {k.removeprefix(PREFIX): v for k, v in line.items() if k.startswith(PREFIX)}
        if seen:
            self.looks.append({**seen, "step": float(line["step"])})

    def measures(self) -> Measures:
        """The last look, and what changed since the first."""
        trained = [each for each in self.validations if each[0]]
        measures = measure_course(self.looks, self.losses, trained, self.classes)
        if self.kept is not None:
            measures["kept_step"] = float(self.kept[0])
        return measures

    def series(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of "train/loss", of recall@1 on the validation classes ("validation") or of a measure."""
        if name == "train/loss":
            return list(enumerate(self.losses, 1))
        if name == "validation":
            return self.validations
        return [(int(look["step"]), look[name]) for look in self.looks if name in look]


def replay(lines: Iterable[Mapping[str, Any]], objective: Objective, history: History) -> dict[str, Finding]:
    """What the monitor would have said of a run, with the thresholds of today, by name.

    Args:
        lines: of log.jsonl.
        objective: of the run.
        history: an empty one, which then holds the lines.

    Returns:
        Each finding as it was first seen, with the step in its evidence.
    """
    first: dict[str, Finding] = {}
    for line in lines:
        history.add(line)
        if any(name.startswith((PREFIX, "validation/")) for name in line):
            for finding in examine(history.measures(), objective):
                first.setdefault(finding.finding, finding.at(line["step"]))
    return first


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
    measures = Measures(looks[-1]) if looks else Measures()
    if losses:
        measures["loss"] = fmean(losses[-LOSS_WINDOW:])
        measures["first_loss"] = fmean(losses[:LOSS_WINDOW])
    for name in ("effective_negatives", *(f"{side}/mean_cosine" for side in SIDES)):
        if looks and name in looks[0]:
            measures[f"first_{name}"] = looks[0][name]
    for name, gone in (("active_triplets", "looks_without_active"), ("mined", "looks_without_mined")):
        seen = [look[name] for look in looks if name in look]
        measures[gone] = float(next((i for i, value in enumerate(reversed(seen)) if value > 0), len(seen)))
    measures |= _measure_all_duplicates(looks)
    # Not every look meets items that lie in the memory.
    drifted = [look for look in looks if "memory_drift" in look and "negative" in look]
    if len(drifted) > 1:
        measures |= {name: value for name, value in drifted[-1].items() if name.startswith("memory_")}
        # 2 - 2 cos is the squared distance of unrelated items.
        measures["lasting_drift"] = min(
            look["memory_drift"] / max(2 - 2 * look["negative"], 1e-6) for look in drifted[-2:]
        )
    opened = [look["memory_open"] for look in looks if "memory_open" in look]
    if opened:
        measures["memory_open"] = max(opened[-2:])
    ratios = [look["update_ratio"] for look in looks if "update_ratio" in look]
    if ratios:
        measures["largest_update_ratio"] = max(ratios)
        lengths = [name for name in looks[0] if name.startswith("weight_norm/") and looks[0][name] > 0]
        measures["weight_growth"] = max(
            (looks[-1].get(name, 0.0) / looks[0][name] for name in lengths), default=math.nan
        )
    if validations:
        measures |= _measure_validation(looks, validations, classes)
    return measures


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
    last_step, measures = validations[-1][0], Measures()
    measures["best_validation_step"], measures["best_validation_recall"] = float(best_step), best
    # The better of the last two: one bad validation is no trend.
    measures["validation_recall"] = max(recall for _, recall in validations[-2:])
    # Standard error of a share, one success and one failure added, so that it is not 0 for all of few.
    share = (best * classes + 1) / (classes + 2)
    measures["validation_error"] = math.sqrt(share * (1 - share) / (classes + 2))
    for name, step in (("training_recall_at_best", best_step), ("training_recall", last_step)):
        near = [look["nearest"] for look in looks if "nearest" in look and look["step"] <= step][-LOOK_WINDOW:]
        measures[name] = fmean(near) if near else math.nan
    return measures
