"""NaN and infinity."""

from pullpush.doctor.declaration import SIDES, Cure, Curves, Finding, Measures, Objective, Symptom, finding, lower_rate

__all__ = ["not_finite", "not_finite_step"]


@finding(
    "critical",
    seen="NaN or infinity in loss, gradient or embeddings; the steps since the last checkpoint are done again with "
    "each tensor watched, and the first bad one is named",
    cure="a lower `--optimizer.lr`, `--optimizer.clip 1`, the data",
    words={"rows": "embeddings with NaN or infinity", "first_tensor": "first tensor that is not finite"},
    figure=Curves("Loss up to the failure", "loss", {"train/loss": "training loss"}),
    live=True,
)
def not_finite(m: Measures, o: Objective) -> Symptom | None:
    """A number overflowed or was undefined (NaN), and spread to everything computed from it."""
    rows = next((bad for side in SIDES if (bad := m[f"{side}/not_finite"]) > 0), 0.0)
    return _symptom({"rows": rows}, o) if rows else None


def not_finite_step(step: int, tensor: str | None, o: Objective) -> Finding:
    """The loss or its gradient was not finite at a step; `tensor` names the first tensor that was not."""
    evidence: dict[str, float | str] = {"step": float(step)}
    return not_finite.of(_symptom(evidence | ({"first_tensor": tensor} if tensor else {}), o), o)


def _symptom(evidence: dict[str, float | str] | dict[str, float], o: Objective) -> Symptom:
    clip = o.run.get("optimizer.clip", 0.0)
    cures = [
        Cure("lower the learning rate: {}", lower_rate(o)),
        Cure("clip the gradient: {}", {"optimizer.clip": 1.0 if not clip or clip > 1 else clip / 10}),
    ]
    source = o.run.get("data.source", "FOLDER")
    return Symptom(evidence, cures, f"Where an input is named, look at the data: `pullpush data {source}`.")
