"""A run as its log and its configuration tell it."""

import math
from collections.abc import Mapping
from typing import Any

from pullpush.doctor.examine import known_options
from pullpush.doctor.finding import Measures, Objective
from pullpush.doctor.measure import measure_course
from pullpush.maths import losses

__all__ = ["PREFIX", "History", "objective_of"]

# Before the names of measures in log.jsonl.
PREFIX = "monitor/"
# Where there are two modalities, the direction that a search by words takes.
RECALLS = ("validation/text_to_image/recall@1", "validation/recall@1")


class History:
    """What the lines of log.jsonl say, in order.

    Args:
        classes: of the validation, where it is known: a recall over few classes is a rough number.
    """

    def __init__(self, classes: float = math.nan) -> None:
        self.classes = classes
        self.losses: list[float] = []
        self.looks: list[dict[str, float]] = []
        self.validations: list[tuple[int, float]] = []

    def add(self, line: Mapping[str, Any]) -> None:
        """A line of the log."""
        if "train/loss" in line:
            self.losses.append(line["train/loss"])
        self.validations += [(line["step"], line[name]) for name in RECALLS if name in line][:1]
        seen = {k.removeprefix(PREFIX): v for k, v in line.items() if k.startswith(PREFIX)}
        if seen:
            self.looks.append({**seen, "step": float(line["step"])})

    def measures(self) -> Measures:
        """The last look, and what changed since the first."""
        return measure_course(self.looks, self.losses, self.validations, self.classes)


def objective_of(config: Mapping[str, Any]) -> Objective:
    """The objective of a run's configuration, as nested plain values."""
    name, options = config["loss"]["name"], {k: v for k, v in config["loss"].items() if k != "name"}
    known = known_options(name, {})
    return Objective(
        loss=name,
        similarity=config.get("similarity") or losses.traits_of(losses.REGISTRY[name]).similarity,
        options=known | {k: v for k, v in options.items() if k in known},
        miner=config.get("miner", {}).get("name", "none"),
        lr=config.get("optimizer", {}).get("lr"),
        samples=config.get("batch", {}).get("samples") or None,  # 0 follows the data
        start_step=config.get("memory", {}).get("start_step", 0),
        steps=config.get("steps", 0),
    )
