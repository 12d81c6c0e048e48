"""Findings that are there before the first step: the weights, the data."""

from pullpush.doctor.finding import Finding, Measures, Objective

__all__ = ["evaluation_without_positives", "weights_not_loaded"]


def weights_not_loaded(m: Measures, o: Objective) -> Finding | None:
    """Tensors of the backbone kept their random values, or the whole backbone is random and frozen."""
    if m["weights_missing"] > 0:
        evidence = {"tensors_missing": m["weights_missing"], "tensors_loaded": m["weights_loaded"]}
        return Finding(
            "weights_not_loaded", "critical" if m["frozen"] == 1 else "warning", evidence,
            "--encoder.weights auto, or a file of this very model; a frozen backbone (--encoder.freeze) learns nothing "
            "that its weights do not bring.",
        )  # fmt: skip
    return None


def evaluation_without_positives(m: Measures, o: Objective) -> Finding | None:
    """Queries without another item of their class count in no metric."""
    share = m["queries_with_positive"]
    if share < 0.5:
        return Finding(
            "evaluation_without_positives", "critical" if share == 0 else "warning",
            {"queries_with_positive": share, "queries": m["queries"]},
            "Give classes with two items or more to the evaluation: another --data.test share, or a gallery with items "
            "of the queries' classes.",
        )  # fmt: skip
    return None
