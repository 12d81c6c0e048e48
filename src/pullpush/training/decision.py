"""What cosines of the kept model mean, fitted on the validation classes, and how that holds on the test classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pullpush.encoders.decision import Decision
from pullpush.evaluation import fit_decision
from pullpush.evaluation.galleries import fit_naming
from pullpush.evaluation.retrieval import Sides
from pullpush.progress import say
from pullpush.runs.reader import RunFolder
from pullpush.runs.verified import verification_values

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["decide", "verified"]


def decide(run: Run, validation: Sides) -> Decision | None:
    """The decision of the weights that are kept, in the views of the model; None where validation can't tell.

    Args:
        run: of the model.
        validation: its validation items.
    """
    items = run.task.splits["validation"]
    if not len(items):
        return None
    x, gallery = validation.gallery, None
    if validation.queries is not None:
        x, gallery = validation.queries, validation.gallery
    decision = fit_decision(x, items.labels, items.ids, gallery=gallery)
    if decision is None:
        say(
            "no decision: fewer than 10 validation classes with two items can't tell which cosine means the same "
            "(--data.validation)"
        )
        return None
    return replace(decision, naming=fit_naming(x, items.labels, items.ids, gallery=gallery))


def verified(run: Run, decision: Decision | None) -> dict[str, Any]:
    """For metrics.json: how well a threshold tells the test classes apart, and what the decision was fitted on."""
    values = verification_values(RunFolder(run.folder), decision)
    if decision is not None:
        fitted = ("method", "losses", "classes", "positives", "negatives")
        values["decision"] = {name: value for name, value in decision.values().items() if name in fitted}
    return values
