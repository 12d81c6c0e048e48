"""Training that ends before each class was drawn."""

from math import ceil, nan

from pullpush.doctor.declaration import Cure, Measures, Objective, Symptom, finding

__all__ = ["classes_never_drawn"]

# Share of the training classes.
NEVER = 0.1


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
