"""Equal items under different labels."""

from pullpush.doctor.declaration import SIDES, Cure, Measures, Objective, Symptom, finding
from pullpush.doctor.findings.collapse import is_collapsed

__all__ = ["false_negatives"]

DUPLICATES = 0.02


@finding(
    "warning",
    seen=f"more than {DUPLICATES:.0%} of the items equal one of another class",
    cure="one label for equal items; `pullpush data` lists them",
    words={"share_of_items": "share of items with an equal one of another class"},
)
def false_negatives(m: Measures, o: Objective) -> Symptom | None:
    """Equal items carry different labels, and the loss pushes apart what can't be told apart."""
    sure = m["duplicates"] - m.get("duplicates_error", 0.0)
    if sure > DUPLICATES and not any(is_collapsed(m, side) for side in SIDES):
        classes = int(o.run.get("batch.classes", 0)) // 2
        cures = [
            Cure("give equal items one label, or remove one of them"),
            Cure("meet fewer of them in a batch: {}", {"batch.classes": classes} if classes > 1 else {}),
        ]
        note = f"`pullpush data {o.run.get('data.source', 'FOLDER')}` lists what is equal."
        return Symptom({"share_of_items": m["duplicates"]}, cures, note)
    return None
