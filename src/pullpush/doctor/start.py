"""Findings that are there before the first step: the weights, the data."""

from pullpush.doctor.advice import Cure, advise
from pullpush.doctor.finding import Finding, Measures, Objective

__all__ = ["evaluation_without_positives", "weights_not_loaded"]


def weights_not_loaded(m: Measures, o: Objective) -> Finding | None:
    """Tensors of the backbone kept their random values, or the whole backbone is random and frozen."""
    if m["weights_missing"] > 0:
        evidence = {"tensors_missing": m["weights_missing"], "tensors_loaded": m["weights_loaded"]}
        frozen = m["frozen"] == 1
        cures = [
            Cure("{}", {"encoder.weights": "auto"}),
            Cure("give a file of this very model: {}", {"encoder.weights": "FILE"}),
            *([Cure("let the backbone learn: {}", {"encoder.freeze": False})] if frozen else []),
        ]
        note = "A frozen backbone learns nothing that its weights do not bring." if frozen else ""
        severity = "critical" if frozen else "warning"
        return Finding("weights_not_loaded", severity, evidence, advise(o, *cures, note=note))
    return None


def evaluation_without_positives(m: Measures, o: Objective) -> Finding | None:
    """Queries without another item of their class count in no metric."""
    share = m["queries_with_positive"]
    if share < 0.5:
        cures = [
            Cure("label the items so that most classes of the test have two or more"),
            Cure("give a gallery with items of the queries' classes"),
        ]
        severity = "critical" if share == 0 else "warning"
        evidence = {"queries_with_positive": share, "queries": m["queries"]}
        return Finding("evaluation_without_positives", severity, evidence, advise(o, *cures))
    return None
