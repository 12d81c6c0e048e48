"""Same or different: the errors of a threshold on the cosine, before and after training."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from pullpush.evaluation import Verification
from pullpush.reports.context import Context
from pullpush.reports.error_rates import WHEN, draw_errors, draw_reliability
from pullpush.reports.matches import model_of
from pullpush.reports.page import Block
from pullpush.runs.reader import Absent, or_else
from pullpush.runs.verified import reliability_of, verification_of

__all__ = ["error_table", "errors", "reliable"]

MOST = 20_000
"""Items of the test up to which the curves take seconds; of more, `pullpush verify` has the rates."""


def errors(context: Context) -> Block:
    """The DET curves."""
    found = _found(context)
    last = list(found.values())[-1]
    eer = ", ".join(f"{WHEN[when]} {each.metrics['eer']:.3f}" for when, each in found.items())
    curves = "a curve before training and one after" if context.run.trained else "a curve"
    return context.figure(
        "verification",
        partial(draw_errors, found),
        alt=f"False reject rate over false accept rate, {curves}",
        caption=f"Each point is a threshold on the cosine: the share of the {last.negatives:,} pairs of different "
        f"classes that it accepts, and of the {last.positives:,} pairs of one class that it refuses. Lower is better. "
        f"The dot is the equal error rate: {eer}.",
    )


def reliable(context: Context) -> Block:
    """Whether the probabilities of the model hold."""
    if len(context.test) > MOST or not context.labelled:
        raise Absent("too many items, or no classes")
    decision = model_of(context.run).decision
    if decision is None:
        raise Absent("the model has no decision")
    found = reliability_of(context.run, decision)
    return context.figure(
        "reliability",
        partial(draw_reliability, found),
        alt="The share of pairs that are of one class over the probability that the model gives them",
        caption=f"Pairs of {context.queried} in bins of the probability that they are of one class: the share that is, "
        "where as many same pairs as different ones are asked about, and below how many pairs there are. On the dotted "
        "line the probabilities hold. The calibration error is the mean distance from it by the weight of the bins, "
        f"{found.error:.4f}. The probabilities were fitted on {decision.classes:,} other classes, those of the "
        "validation.",
    )


def error_table(context: Context) -> Block:
    """The rates with their intervals, of metrics.json."""
    measured = context.known_metrics.get("verification") or {}
    known = {when: measured[when] for when in WHEN if measured.get(when)}
    if not known:
        raise Absent("the run did not measure verification")
    if not context.run.trained:
        known = {"as it is": known["after"]}
    last = list(known.values())[-1]
    names = [name for name in last if f"{name}_low" in last]
    rows = [[_named(name), *(_with_interval(values, name) for values in known.values())] for name in names]
    error = measured.get("calibration_error")
    caption = "" if error is None else f"Calibration error of the model's probabilities on these pairs: {error:.4f}. "
    return Block(
        heading="With 95% intervals over the classes",
        head=["rate", *(WHEN[when] for when in known)],
        rows=rows,
        caption=f"{caption}The command verify has thresholds, and the rates by group.",
    )


def _found(context: Context) -> dict[str, Verification]:
    if len(context.test) > MOST or not context.labelled:
        raise Absent("too many items, or no classes")
    found = {when: or_else(partial(verification_of, context.run, when), None) for when in WHEN}
    there = {when: each for when, each in found.items() if each is not None}
    if not context.run.trained and "after" in there:
        there["as it is"] = there.pop("after")
    after = there.get("after", there.get("as it is"))
    if after is None or not np.isfinite(after.metrics["eer"]):
        raise Absent("the test items were not embedded")
    return there


def _named(name: str) -> str:
    return "equal error rate" if name == "eer" else f"true accepts at {name.removeprefix('tar@far=')} false accepts"


def _with_interval(values: Mapping[str, float | None], name: str) -> str:
    value, low, high = (values.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "–"
    return f"{value:.3f}" + ("" if low is None or high is None else f" ({low:.3f} to {high:.3f})")
