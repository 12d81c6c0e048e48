"""Training classes at the expense of others."""

from pullpush.doctor.declaration import Cure, Curves, Measures, Objective, Symptom, finding, lower_rate

__all__ = ["over_fitting"]

# Fall of recall@1, and its standard error above which nothing is said: too few classes.
DROP, ROUGH = 0.05, 0.15
WORDS = {
    "training_recall": "recall@1 in training batches",
    "training_recall_at_best": "recall@1 in training batches at the best validation",
    "validation_recall": "recall@1 on validation classes",
    "best_validation_recall": "best recall@1 on validation classes",
    "best_validation_step": "step of the best recall@1",
    "kept_step": "step whose weights are kept",
}


@finding(
    "warning",
    seen=f"validation recall@1 fell from its best by more than {DROP} and its standard error over classes, that on "
    "training batches did not",
    cure="`--steps` as named, `--encoder.augment true`, more `--encoder.frozen_stages`",
    words=WORDS,
    figure=Curves("Retrieval", "recall@1", {"nearest": "training batches", "validation": "validation classes"}),
)
def over_fitting(m: Measures, o: Objective) -> Symptom | None:
    """Training classes are still learned better, at the expense of classes that were not trained on."""
    drop = m["best_validation_recall"] - m["validation_recall"]
    falls = drop > max(DROP, m["validation_error"]) and not m["validation_error"] > ROUGH
    if falls and m["training_recall"] >= m["training_recall_at_best"]:
        cures = [
            Cure("{}", {"steps": int(m["best_validation_step"])}),
            Cure("{}", {"encoder.augment": True}),
            Cure("{}", {"encoder.frozen_stages": o.run.get("encoder.frozen_stages", 0) + 1}),
            Cure("a smaller head: {}", {"encoder.head": "linear"}),
            Cure("a lower learning rate: {}", lower_rate(o, 3)),
        ]
        kept = m["kept_step"]
        note = f"The weights that are kept are those of step {kept:.0f}, the best so far." if kept > 0 else ""
        return Symptom(m.some(*WORDS), cures, note)
    return None
