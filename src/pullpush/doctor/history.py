"""A run as its log and its configuration tell it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pullpush.doctor.examine import examine
from pullpush.doctor.finding import Finding, Measures, Objective
from pullpush.doctor.measure import RESULTS, measure_course
from pullpush.maths import losses

__all__ = ["PREFIX", "History", "objective_of", "replay"]

# Before the names of measures in log.jsonl.
PREFIX = "monitor/"
# Where there are two modalities, the direction that a search by words takes.
RECALLS = ("validation/text_to_image/recall@1", "validation/recall@1")


class History:
    """What the lines of log.jsonl say, in order.

    Args:
        classes: of the validation, where it is known: a recall over few classes is a rough number.

    Attributes:
        kept: step and score of the best validation so far, by what weights are chosen by.
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
            if self.kept is None or score > self.kept[1]:
                self.kept = line["step"], score
        seen = {k.removeprefix(PREFIX): v for k, v in line.items() if k.startswith(PREFIX)}
        if seen:
            self.looks.append({**seen, "step": float(line["step"])})

    def measures(self) -> Measures:
        """The last look, and what changed since the first."""
        found = measure_course(self.looks, self.losses, self.validations, self.classes)
        return found if self.kept is None else found | {"kept_step": float(self.kept[0])}


def replay(
    lines: Iterable[Mapping[str, Any]], objective: Objective, history: History
) -> dict[str, tuple[int, Finding]]:
    """What the monitor would have said of a run, with the thresholds of today: each finding with its first step.

    Args:
        lines: of log.jsonl.
        objective: of the run.
        history: an empty one, which then holds the lines.
    """
    found: dict[str, tuple[int, Finding]] = {}
    for line in lines:
        history.add(line)
        if any(name.startswith((PREFIX, "validation/")) for name in line):
            for finding in examine(history.measures(), objective):
                found.setdefault(finding.finding, (line["step"], finding))
    return found


def objective_of(config: Mapping[str, Any], limits: Mapping[str, float] | None = None) -> Objective:
    """The objective of a run's configuration, as nested plain values.

    Args:
        limits: the largest values of options that data and encoder allow, where they are known.
    """
    name, options = config["loss"]["name"], {k: v for k, v in config["loss"].items() if k != "name"}
    loss = losses.REGISTRY[name]()
    known = {k: options.get(k, default) for k, default in loss.options.items()}
    run = dict(_flat(config)) | {f"loss.{k}": v for k, v in known.items()}
    return Objective(
        loss=name,
        similarity=config.get("similarity") or loss.traits.similarity,
        options=known,
        run=run,
        limits={"memory.start_step": run.get("steps", math.inf), **(limits or {})},
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested options by name, as they are typed: "optimizer.lr"; the name of a thing by the thing's ("miner")."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield (prefix[:-1] if key == "name" and prefix else f"{prefix}{key}"), value
