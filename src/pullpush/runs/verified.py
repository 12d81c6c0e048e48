"""Same or different on the items of a run: `verify` and the probabilities of its model, of what training embedded."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.encoders.decision import Decision
from pullpush.errors import UserError
from pullpush.evaluation import Verification, reliability, verify
from pullpush.evaluation.calibration import Reliability
from pullpush.runs.reader import Missing, RunFolder, or_else

__all__ = ["groups_of", "reliability_of", "verification_of", "verification_values"]


class _Embedded(NamedTuple):
    """Items as queries and, where that is another way, as a gallery."""

    queries: NDArray[np.float32]
    gallery: NDArray[np.float32] | None


def verification_of(run: RunFolder, when: str, groups: bool = False) -> Verification:
    """All pairs of the test items `when` = "before", "after" or, of a model with test views, in these ("views").

    Raises:
        Missing: they were not embedded so.
        UserError: they are of one class, or no two of them are.
    """
    items, embedded = run.split("test"), _embedded(run, when)
    labels, ids = (items.table[name].to_numpy() for name in ("label", "id"))
    by = groups_of(items) if groups else {}
    against: dict[str, Any] = {}
    if embedded.gallery is not None:
        against = {"gallery": embedded.gallery, "gallery_labels": labels, "gallery_ids": ids, "gallery_groups": by}
    return verify(embedded.queries, labels, ids, groups=by or None, **against)


def reliability_of(run: RunFolder, decision: Decision) -> Reliability:
    """The probabilities of the model on the pairs of the test items; raises as `verification_of`."""
    items = run.split("test")
    embedded = or_else(lambda: _embedded(run, "views"), None) or _embedded(run, "after")
    labels, ids = (items.table[name].to_numpy() for name in ("label", "id"))
    return reliability(decision, embedded.queries, labels, ids, gallery=embedded.gallery)


def verification_values(run: RunFolder, decision: Decision | None) -> dict[str, Any]:
    """For metrics.json: {"before": ..., "after": ..., "views": ..., "calibration_error": ...}, without what there is
    not."""
    found: dict[str, Any] = {}
    try:
        for when in ("before", "after", "views"):
            verification = or_else(lambda when=when: verification_of(run, when), None)  # type: ignore[misc]
            if verification is not None:
                found[when] = verification.values()
        if decision is not None:
            found["calibration_error"] = reliability_of(run, decision).error
    except (UserError, Missing):
        pass  # the test items are of one class, or no two are of one: nothing can be told, so nothing is kept
    return found


def groups_of(items: Items) -> dict[str, NDArray[Any]]:
    """The groupings of items that have some: their category, and their domain."""
    columns = {name: items.table[name].astype(str).to_numpy() for name in ("category", "domain")}
    return {name: column for name, column in columns.items() if (column != "").any() and len(np.unique(column)) > 1}


def _embedded(run: RunFolder, when: str) -> _Embedded:
    if when != "views":
        return _Embedded(run.embeddings("test", when), None)
    return _Embedded(run.matrix("test-views-query"), run.matrix("test-views"))
