"""What the model goes by is at the border of the images."""

from pullpush.doctor.declaration import Cure, Measures, Objective, Symptom, finding

__all__ = ["border_decides"]

TIMES, MORE = 1.5, 0.1


@finding(
    "warning",
    seen=f"test queries of which only the border is seen (half of the area) find their class first {TIMES:g} times as "
    f"often as by the middle alone, and at least {MORE:g} more of them do",
    cure="crop the images, `--encoder.freeze false` with `--encoder.augment true`",
    words={
        "border_recall": "recall@1 of the border alone",
        "middle_recall": "recall@1 of the middle alone",
        "whole_recall": "recall@1 of whole images",
    },
)
def border_decides(m: Measures, o: Objective) -> Symptom | None:
    """The images are told apart by what surrounds the object: a frame, a watermark, the background. Objects in other
    surroundings will not be found."""
    border, middle = m["border_recall"], m["middle_recall"]
    if border > TIMES * middle and border > middle + MORE:
        cures = [
            Cure("crop the images to what they show (columns x_1, y_1, x_2, y_2 of a manifest)"),
            Cure("let the backbone learn from random crops: {}", {"encoder.freeze": False, "encoder.augment": True}),
        ]
        return Symptom(m.some("border_recall", "middle_recall", "whole_recall"), cures)
    return None
