"""What a finding is, and the numbers that findings are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SEVERITIES", "Finding", "Measures", "Objective", "shown"]

# Worst first: training is in vain until it is mended; it costs quality; good to know.
SEVERITIES = ("critical", "warning", "note")


class Measures(dict[str, float]):
    """Numbers by name. What was not measured is NaN, which no threshold is above or below."""

    def __missing__(self, name: str) -> float:
        return float("nan")


@dataclass(frozen=True)
class Objective:
    """What is minimised, as far as findings depend on it.

    Attributes:
        loss: its name; empty where it is not known.
        similarity: what it compares with.
        options: of the loss, with their defaults.
        miner: its name, or none.
        batch: classes and samples of a batch, where they are known.
        lr: highest learning rate, where it is known.
        start_step: of the memory.
        steps: of the run, 0 where that is not known.
    """

    loss: str = ""
    similarity: str = "cosine"
    options: Mapping[str, Any] | None = None
    miner: str = "none"
    lr: float | None = None
    samples: int | None = None
    start_step: int = 0
    steps: int = 0

    def option(self, name: str) -> Any:
        """An option of the loss, or None."""
        return (self.options or {}).get(name)

    @property
    def softmax(self) -> bool:
        """Whether the loss is the cross entropy of each positive among the negatives, with a temperature."""
        return self.loss in ("n_pair", "nt_xent") and not self.option("one_vs_one")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        finding: its name, as in docs/doctor.md.
        severity: one of `SEVERITIES`.
        evidence: what was measured.
        advice: what to do, with the exact option.
    """

    finding: str
    severity: str
    evidence: dict[str, float | str]
    advice: str

    def __str__(self) -> str:
        seen = ", ".join(f"{name} {shown(value)}" for name, value in self.evidence.items())
        return f"{self.severity}: {self.finding} ({seen}). {self.advice}"


def shown(value: float | str) -> str:
    """A number as people read it: whole numbers whole, others with three digits; words as they are."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.3g}"
