"""What the model goes by is at the border of the images."""

from pullpush.doctor.declaration import Cure, Measures, Objective, Symptom, finding

__all__ = ["border_decides"]

MOST = 0.2


@finding(
    "warning",
    seen="test images whose middle (half of the area) is set into an image of another class find the class of the "
    f"border first more often than that of the middle, and at least {MOST:g} of them do",
    cure='crop the images, `--views.query "1 crop 0.7"`',
    words={
        "border_recall": "share that finds the class of the border",
        "middle_recall": "share that finds the class of the middle",
        "whole_recall": "recall@1 of whole images",
    },
)
def border_decides(m: Measures, o: Objective) -> Symptom | None:
    """The images are told apart by what surrounds the object: a frame, a watermark, the background. Objects in other
    surroundings will not be found."""
    border, middle = m["border_recall"], m["middle_recall"]
    if border > middle and border >= MOST:
        cures = [
            Cure("crop the images to what they show (columns x_1, y_1, x_2, y_2 of a manifest), and train on these"),
            Cure("look at their middle alone: {}", {"views.query": "1 crop 0.7"}),
        ]
        return Symptom(m.some("border_recall", "middle_recall", "whole_recall"), cures)
    return None
