"""Advice that a run can follow: each piece names the options that it would set."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pullpush.doctor.objective import Objective

__all__ = ["Cure", "Value", "advise", "lower_rate"]

Value = bool | float | str
# An option that does nothing while another one has this value.
IDLE_WHILE: dict[str, tuple[tuple[str, Value], ...]] = {
    "encoder.augment": (("encoder.freeze", True),),
    "encoder.frozen_stages": (("encoder.freeze", True), ("encoder.weights", "none")),
    "optimizer.backbone_scale": (("encoder.freeze", True),),
    "encoder.dim": (("encoder.head", "none"),),
    "memory.start_step": (("memory.size", 0),),
}


@dataclass(frozen=True)
class Cure:
    """One piece of advice.

    Attributes:
        text: words without a full stop; {} stands for the options as they are typed.
        options: that it would set, by name; none for what a person does by hand, or where no value is known.
    """

    text: str
    options: Mapping[str, Value] = field(default_factory=dict)


def advise(objective: Objective, *cures: Cure, note: str = "") -> str:
    """The cures as one sentence, and a note behind it.

    Options that the run has already, or that it can't take, are left out; and with its last option the cure.
    """
    texts = []
    for cure in cures:
        left = [f"--{name} {_typed(value)}" for name, value in cure.options.items() if _helps(objective, name, value)]
        if left or not cure.options:
            texts.append(cure.text.format(" ".join(left)).removesuffix(": "))
    sentence = "; or ".join(filter(None, texts)) or "the options that are known to help are set already"
    return f"{sentence[0].upper()}{sentence[1:]}.{f' {note}' if note else ''}"


def lower_rate(objective: Objective, by: float = 10, most: float = 1.0) -> dict[str, Value]:
    """The learning rate divided by so much, and at most `most`; nothing where it is not known."""
    return {} if objective.lr is None else {"optimizer.lr": float(f"{min(most, objective.lr / by):.0e}")}


def _helps(objective: Objective, name: str, value: Value) -> bool:
    if name.startswith("loss.") and objective.loss and name not in objective.run:
        return objective.option(name[5:]) not in (None, value)
    idle = any(objective.run.get(other) == at for other, at in IDLE_WHILE.get(name, ()))
    too_large = not isinstance(value, str) and value > objective.limits.get(name, value)
    return not idle and not too_large and objective.run.get(name) != value


def _typed(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.0e}" if 0 < value < 0.01 else f"{value:g}"
    return str(value)
