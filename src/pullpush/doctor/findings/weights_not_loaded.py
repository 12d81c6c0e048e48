"""A backbone that begins with random weights."""

from pullpush.doctor.declaration import Cure, Measures, Objective, Symptom, finding

__all__ = ["weights_not_loaded"]


@finding(
    "warning",
    seen="tensors of the backbone kept random values, or the whole of it is random and frozen; critical where it is "
    "frozen",
    cure="`--encoder.weights auto`, or the file of this very model",
    words={
        "tensors_missing": "tensors of the backbone without weights",
        "tensors_loaded": "tensors of the backbone that were loaded",
    },
    live=True,
)
def weights_not_loaded(m: Measures, o: Objective) -> Symptom | None:
    """Parts of the backbone start from random numbers although weights were asked for, or the whole of it is random and
    frozen. The features mean little."""
    if m["weights_missing"] > 0:
        frozen = m["frozen"] == 1
        cures = [
            Cure("{}", {"encoder.weights": "auto"}),
            Cure("give a file of this very model: {}", {"encoder.weights": "FILE"}),
            *([Cure("let the backbone learn: {}", {"encoder.freeze": False})] if frozen else []),
        ]
        note = "A frozen backbone learns nothing that its weights do not bring." if frozen else ""
        evidence = {"tensors_missing": m["weights_missing"], "tensors_loaded": m["weights_loaded"]}
        return Symptom(evidence, cures, note, "critical" if frozen else None)
    return None
