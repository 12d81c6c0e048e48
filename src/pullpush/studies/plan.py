"""What a study consists of: runs that differ in a few options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pullpush.errors import UserError
from pullpush.runs.config import Config

__all__ = ["FAST", "Recorder", "StudyRun", "named", "numbers"]

# Options of a study's runs, unless the command line says otherwise: the head alone learns, on cached features, and what
# is tested and compared is what training did, whether it helped or not.
FAST: Mapping[str, Any] = {
    "encoder.freeze": True,
    "steps": 1000,
    "checkpoint_every": 250,
    "tensorboard": False,
    "report": False,
    "nmi": False,
    "gate": False,
    "average.ema": 0.0,
    "average.blend": False,
    "views.choose": "none",
    "rerank": "none",
    "table": False,
    "on_collapse": "warn",
}


class Recorder(Protocol):
    """Made with the run's folder and its configuration, called after each step, closed at the end."""

    def __init__(self, folder: Path, config: Config) -> None: ...

    def __call__(self, run: Any, step: int) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Args:
        name: of its folder under OUT/runs.
        config: everything that repeats it.
        facts: what distinguishes it, for the table: loss, margin, seed.
        recorders: what else is written into its folder while it goes.
        resumable: False where a recorder needs all steps; such a run starts anew after a kill.
    """

    name: str
    config: Config
    facts: Mapping[str, Any]
    recorders: Sequence[type[Recorder]] = ()
    resumable: bool = True


def named(config: Config, recorders: Sequence[type[Recorder]] = (), resumable: bool = True, **facts: Any) -> StudyRun:
    """The run of a configuration, named by its loss, what else tells it apart, and its seed."""
    facts = {"loss": config.loss.name, **facts, "seed": config.seed}
    words = [value if isinstance(value, str) else f"{name}-{_short(value)}" for name, value in facts.items()]
    return StudyRun("-".join(words), config, facts, recorders, resumable)


def _short(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def numbers(text: str, option: str) -> list[float]:
    """`0.4:1.0:0.1` (both ends count) or `0.4,0.5,0.7` as numbers.

    Raises:
        UserError: anything else, naming the option.
    """
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        first, last, step = (float(part) for part in text.split(":"))
    except ValueError:
        raise UserError(
            f"--{option} {text!r} is no list of numbers: give FIRST:LAST:STEP or A,B,C, such as 0.4:1.0:0.1"
        ) from None
    if step <= 0 or last < first:
        raise UserError(f"--{option} {text!r} is empty: FIRST:LAST:STEP needs LAST at least FIRST and STEP above 0")
    # Rounded: 0.4 + 3 x 0.1 shall be 0.7 in names and tables.
    return [round(first + i * step, 10) for i in range(int((last - first) / step + 1e-9) + 1)]
