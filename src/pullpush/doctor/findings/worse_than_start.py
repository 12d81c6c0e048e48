"""Training that did harm."""

from pullpush.doctor.declaration import RESULTS, WHEN, Cure, Measures, Objective, Symptom, finding, lower_rate

__all__ = ["worse_than_start"]


@finding(
    "critical",
    seen="MAP@R on the test classes (with texts, recall@1 of text to image) is lower after training than before",
    cure="a lower `--optimizer.lr`, the head alone, the pretrained backbone as it is",
    words={
        "map@r_before": "MAP@R before training",
        "map@r_after": "MAP@R after training",
        "recall@1_before": "recall@1 before training",
        "recall@1_after": "recall@1 after training",
    },
)
def worse_than_start(m: Measures, o: Objective) -> Symptom | None:
    """On the test classes, the trained model finds less than the untrained one did: this training did harm."""
    name = next((name for name in RESULTS if f"{name}_after" in m), "")
    if m[f"{name}_after"] < m[f"{name}_before"]:
        cures = [
            Cure("a lower learning rate: {}", lower_rate(o)),
            Cure("the head alone: {}", {"encoder.freeze": True}),
            Cure("use the pretrained backbone without training"),
        ]
        evidence = m.some(*(f"{name}_{when}" for name in RESULTS for when in WHEN))
        return Symptom(evidence, cures, "Findings that stand beside this one may say why.")
    return None
