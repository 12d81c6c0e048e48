"""Training that begins with random weights, is too short, takes steps that are too large, over-fits, or does harm."""

from math import ceil, nan

from pullpush.doctor.declaration import (
    RESULTS,
    WHEN,
    Cure,
    Curves,
    Measures,
    Objective,
    Symptom,
    finding,
    freeze,
    lower_rate,
)

__all__ = [
    "classes_never_drawn",
    "is_worse",
    "learning_rate_too_high",
    "no_gain",
    "over_fitting",
    "weights_not_loaded",
    "worse_than_start",
]

# Share of the training classes.
NEVER = 0.1
# Update of the weights in one step as a share of their length.
LARGE_UPDATE = 0.2
# Length of the weights compared with the first step: updates that point here and there make them longer.
LARGE_GROWTH = 3.0
# Fall of recall@1, and its standard error above which nothing is said: too few classes.
DROP, ROUGH = 0.05, 0.15
# Of what the untrained model finds, a loss that one could see.
HARM = 0.01
WORDS = {
    "training_recall": "recall@1 in training batches",
    "training_recall_at_best": "recall@1 in training batches at the best validation",
    "validation_recall": "recall@1 on validation classes",
    "best_validation_recall": "best recall@1 on validation classes",
    "best_validation_step": "step of the best recall@1",
    "kept_step": "step whose weights are kept",
}

GAIN_WORDS = {
    "score_untrained": "untrained",
    "score_trained": "trained",
    "gain": "gain on validation classes",
    "gain_error": "standard error of the gain",
}


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
            *([Cure("let the backbone learn: {}", freeze(o, False))] if frozen else []),
        ]
        note = "A frozen backbone learns nothing that its weights do not bring." if frozen else ""
        evidence = {"tensors_missing": m["weights_missing"], "tensors_loaded": m["weights_loaded"]}
        return Symptom(evidence, cures, note, "critical" if frozen else None)
    return None


@finding(
    "warning",
    seen=f"all steps together draw fewer classes than there are in training: more than {NEVER:.0%} of them never come",
    cure="more `--steps`, more `--batch.classes`",
    words={"classes": "training classes", "never_drawn": "classes that no batch ever holds"},
    live=True,
)
def classes_never_drawn(m: Measures, o: Objective) -> Symptom | None:
    """The run is over before the sampler has gone through all training classes once, so it learns nothing from those
    that are left: their images might as well not be there."""
    classes, batch = o.limits.get("batch.classes", nan), o.run.get("batch.classes") or nan
    # The sampler draws each class once before it draws one again.
    never = classes - o.steps * batch
    if o.steps and never > NEVER * classes:
        cures = [
            Cure("{} draws each class once, a few times as many are better", {"steps": ceil(classes / batch)}),
            Cure("batches of more classes: {}", {"batch.classes": ceil(classes / o.steps)}),
        ]
        return Symptom({"classes": classes, "never_drawn": never}, cures)
    return None


@finding(
    "warning",
    seen=f"one step changes the weights by more than {LARGE_UPDATE:.0%} of their length, or they grew to "
    f"{LARGE_GROWTH:g} times it",
    cure="the named `--optimizer.lr`",
    words={
        "update_over_weights": "change of the weights in one step, as a share of their length",
        "weight_growth": "length of the weights, as a multiple of that at the first step",
        "gradient_norm": "norm of the gradient",
    },
    figure=Curves("Update as a share of the weights", "share", {"update_ratio": "of one step"}),
)
def learning_rate_too_high(m: Measures, o: Objective) -> Symptom | None:
    """A step changes the weights by a large share of their length. What the backbone or the head knew is overwritten in
    the first steps, and a collapse is near."""
    if m["largest_update_ratio"] > LARGE_UPDATE or m["weight_growth"] > LARGE_GROWTH:
        evidence = {"update_over_weights": m["largest_update_ratio"], "weight_growth": m["weight_growth"]}
        lower = lower_rate(o, most=1e-3) or {"optimizer.lr": 5e-4}
        return Symptom(evidence | m.some("gradient_norm", "first_loss", "loss"), [Cure("{}", lower)])
    return None


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


def is_worse(before: float, after: float) -> bool:
    """Whether a trained model finds less than the untrained one did, by more than a hundredth of that."""
    return after < (1 - HARM) * before


@finding(
    "critical",
    seen="MAP@R on the test classes (with texts, recall@1 of text to image) is lower after training than before, by "
    "more than a hundredth of it",
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
    if is_worse(m[f"{name}_before"], m[f"{name}_after"]):
        cures = [
            Cure("a lower learning rate: {}", lower_rate(o)),
            Cure("the head alone: {}", freeze(o, True)),
            Cure("use the pretrained backbone without training"),
        ]
        evidence = m.some(*(f"{name}_{when}" for name in RESULTS for when in WHEN))
        return Symptom(evidence, cures, "Findings that stand beside this one may say why.")
    return None


@finding(
    "warning",
    seen="the gain on the validation classes over the untrained model is not larger than half its standard error over "
    "classes",
    cure="a lower `--optimizer.lr`, the head alone; of a small gain more `--steps`, more `--data.validation`",
    words=GAIN_WORDS,
    figure=Curves("Retrieval", "recall@1", {"nearest": "training batches", "validation": "validation classes"}),
)
def no_gain(m: Measures, o: Objective) -> Symptom | None:
    """On the validation classes, the best weights of training find no more than the untrained model, as far as so many
    classes can tell."""
    if m["gain_shown"] != 0:
        return None
    slower = [
        Cure("a lower learning rate: {}", lower_rate(o, 3)),
        Cure("the head alone: {}", freeze(o, True)),
    ]
    longer = [
        Cure("more steps: {}", {"steps": 2 * o.steps} if o.steps else {}),
        Cure("more validation classes, which tell smaller gains: {}", {"data.validation": 0.2}),
    ]
    kept = "The untrained model is kept." if m["start_kept"] else "The trained model is kept all the same."
    return Symptom(m.some(*GAIN_WORDS), longer + slower if m["gain"] > 0 else slower, kept)
