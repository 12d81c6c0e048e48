"""Images and texts that lie apart."""

from pullpush.doctor.declaration import Cure, Curves, Measures, Objective, Symptom, finding, lower_rate

__all__ = ["modality_gap"]

GAP = 0.5
# Share of the steps in which nothing is said: untrained towers have the gap too.
EARLY = 0.5
# Largest update, as a share of the weights, below which towers hardly move.
SLOW = 5e-3


@finding(
    "note",
    seen=f"from half of the steps on: centres of images and texts more than {GAP} apart, and matching pairs farther "
    "apart than unrelated items of one modality",
    cure="a higher `--optimizer.lr` where nothing moves, more `--steps`, a higher `--loss.temperature`",
    words={
        "gap": "distance between the centres of images and texts",
        "matching_cosine": "mean cosine of matching pairs",
        "same_side_cosine": "mean cosine within one modality",
    },
    figure=Curves(
        "Gap between the modalities", "distance", {"modality_gap": "of the centres", "positive": "matching cosine"}
    ),
)
def modality_gap(m: Measures, o: Objective) -> Symptom | None:
    """Images and texts each keep to a region of their own. A search of one by the other can still work; in one index
    for both, every image is closer to all images than to its own text."""
    if m["modality_gap"] > GAP and m["positive"] < m["closest_cosine"] and not m["step"] < EARLY * o.steps:
        evidence = {"gap": m["modality_gap"], "matching_cosine": m["positive"], "same_side_cosine": m["closest_cosine"]}
        temperature = 2 * (o.option("temperature") or 0.1)
        slow = m["largest_update_ratio"] < SLOW
        cures = [
            *([Cure("raise the learning rate: {}", lower_rate(o, 0.1))] if slow else []),
            Cure("train longer: {}", {"steps": 2 * o.steps} if o.steps else {}),
            Cure("start from a higher temperature: {}", {"loss.temperature": temperature}),
        ]
        return Symptom(evidence, cures, "Search one modality by the other, not both in one index.")
    return None
