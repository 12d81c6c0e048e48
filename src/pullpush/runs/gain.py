"""Whether the validation classes show a gain of trained weights over the untrained model."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pullpush.evaluation import CrossModal, Evaluation
from pullpush.evaluation.metrics import title_of
from pullpush.runs.reader import Missing, RunFolder

__all__ = ["Gain", "gain_of", "gain_over_start", "kept_sentence"]

# Standard errors: about what a gain owes to being that of the best of several validations.
ERRORS = 0.5

# With fewer validation classes than this a gain is said to be uncertain. Six of photographs showed one of 0.09 MAP@R,
# three standard errors, where 37 others lost 0.02.
FEW = 10


@dataclass(frozen=True)
class Gain:
    r"""What trained weights find more than the untrained model, query by query, on the validation classes.

    With $d_c$ the mean difference of the $n_c$ queries of class $c$ and $\bar d = \sum_c n_c d_c / \sum_c n_c$, the
    standard error over the choice of $C$ classes is
    $\sqrt{\frac{C}{C - 1} \sum_c n_c^2 (d_c - \bar d)^2} \,/ \sum_c n_c$: queries of one class are not independent.

    Attributes:
        metric: by which weights are chosen.
        start: its mean over the queries, untrained.
        trained: the same of the trained weights.
        difference: the second less the first.
        error: standard error of the difference.
        classes: that the queries are of, at least 2.
        errors: standard errors that a gain must exceed: half of one, where the best of several validations is taken.
    """

    metric: str
    start: float
    trained: float
    difference: float
    error: float
    classes: int
    errors: float = ERRORS

    @property
    def shown(self) -> bool:
        """Whether the difference is larger than `errors` times its standard error."""
        return self.difference > self.errors * self.error

    def values(self) -> dict[str, Any]:
        """For metrics.json."""
        return asdict(self) | {"shown": self.shown}


def gain_over_start(folder: Path, trained: Evaluation | CrossModal, metric: str) -> Gain | None:
    """The gain over what the run folder holds of its validation before the first step.

    Args:
        folder: of the run.
        trained: evaluation of the validation split by the trained weights.
        metric: by which weights are chosen, "map@r" or "text_to_image/recall@1".

    Returns:
        None where fewer than two classes have queries that count, or nothing was measured before the first step.
    """
    way = metric.rpartition("/")[0]
    run = RunFolder(folder, f"remove {folder} and run the command again")
    try:
        if isinstance(trained, CrossModal):
            before, after = run.cross_modal("validation", "before", "text_to_image"), getattr(trained, way)
        else:
            before, after = run.evaluation("validation", "before"), trained
    except Missing:
        return None
    return _gain(before, after, metric)


def gain_of(
    before: Evaluation | CrossModal, after: Evaluation | CrossModal, metric: str, errors: float = ERRORS
) -> Gain | None:
    """The gain of one way to use a model over another, as of `Gain`, whose `start` is then the first of them.

    Args:
        before: evaluation of the validation split.
        after: the same, the other way.
        metric: by which weights are chosen.
        errors: as of `Gain`.

    Returns:
        None where fewer than two classes have queries that count.
    """
    way = metric.rpartition("/")[0]
    one, other = (getattr(each, way) if isinstance(each, CrossModal) else each for each in (before, after))
    return _gain(one, other, metric, errors)


def _gain(before: Evaluation, after: Evaluation, metric: str, errors: float = ERRORS) -> Gain | None:
    name = metric.rpartition("/")[2]
    values, counted = after.per_query, after.counted
    one, other = (each.per_query[name].to_numpy()[counted] for each in (before, after))
    classes, of_class = np.unique(values["label"].to_numpy()[counted], return_inverse=True)
    if len(classes) < 2:
        return None
    change, count = other - one, len(classes)
    difference = float(change.mean())
    squares = float(np.square(np.bincount(of_class, change - difference)).sum())
    error = math.sqrt(count / (count - 1) * squares) / len(change)
    return Gain(metric, float(one.mean()), float(other.mean()), difference, error, count, errors)


def kept_sentence(metrics: Mapping[str, Any]) -> str:
    """What the model of a run is and why, of its metrics.json; empty for a run of a version that did not say it."""
    if "kept" not in metrics:
        return ""
    if not metrics["gain"] and metrics["kept"] == "start":
        return (
            "The untrained model is kept: training collapsed, and no validation tells which weights were good before."
        )
    if not metrics["gain"]:
        return (
            "The last weights are kept, and nothing shows that they are better than the untrained model: there are no "
            "two validation classes (--data.validation)."
        )
    gain = metrics["gain"]
    measured = (
        f"on {gain['classes']:,} validation classes {title_of(gain['metric'])} went from {gain['start']:.3f} to "
        f"{gain['trained']:.3f} ({gain['difference']:+.4f}, standard error {gain['error']:.4f})"
    )
    if metrics["kept"] == "start":
        return f"The untrained model is kept, as training shows no gain: {measured}."
    names = {"average": "moving average of the weights", "blend": f"blend of {metrics['share']:.0%} trained weights"}
    kept = f"The {names.get(metrics['kept'], 'trained model')} is kept"
    if not gain["shown"]:
        return f"{kept} (--gate false) although it shows no gain: {measured}."
    few = (
        f" {gain['classes']} classes are few: a gain on them may not be one on others." if gain["classes"] < FEW else ""
    )
    return f"{kept}: {measured}.{few}"
