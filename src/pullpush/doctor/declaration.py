"""What a finding is, how one is declared, and all that a declaration is written with."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from pullpush.doctor.measures import RESULTS, SIDES, WHEN, Measures
from pullpush.doctor.objective import Objective
from pullpush.notebook import lines, table

__all__ = [
    "RESULTS",
    "SEVERITIES",
    "SIDES",
    "WHEN",
    "Cure",
    "Curves",
    "Declaration",
    "Figure",
    "Finding",
    "Findings",
    "Measures",
    "Objective",
    "Severity",
    "Symptom",
    "Value",
    "advise",
    "finding",
    "freeze",
    "lower_rate",
    "possible",
    "shown",
    "typed",
    "words",
]

Severity = Literal["critical", "warning", "note"]
# Worst first: training is in vain until it is mended; it costs quality; good to know.
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
Value = bool | float | str
# An option that does nothing while another one has this value.
IDLE_WHILE: dict[str, tuple[tuple[str, Value], ...]] = {
    "encoder.augment": (("encoder.freeze", True), ("encoder.tune", "head")),
    "encoder.frozen_stages": (
        ("encoder.freeze", True),
        ("encoder.weights", "none"),
        *(("encoder.tune", what) for what in ("head", "last-stages", "lora", "all")),
    ),
    "optimizer.backbone_scale": (("encoder.freeze", True), ("encoder.tune", "head")),
    "encoder.dim": (("encoder.head", "none"),),
    "memory.start_step": (("memory.size", 0),),
}
# Pieces of evidence whose name alone does not say what they are, as the declarations explain them.
_WORDS: dict[str, str] = {}


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
    severity: Severity
    evidence: Mapping[str, float | str]
    advice: str

    def at(self, step: int) -> "Finding":
        """The same with the step in its evidence."""
        return replace(self, evidence={**self.evidence, "step": float(step)})

    @property
    def seen(self) -> str:
        """The evidence in words."""
        return ", ".join(f"{words(name)} {shown(value)}" for name, value in self.evidence.items())

    def _repr_html_(self) -> str:
        return Findings([self])._repr_html_()

    def __str__(self) -> str:
        return f"{self.severity}: {self.finding} ({self.seen}). {self.advice}"


class Findings(list[Finding]):
    """Findings, worst first."""

    def _repr_html_(self) -> str:
        rows = [
            {"severity": each.severity, "finding": each.finding, "evidence": each.seen, "advice": each.advice}
            for each in self
        ]
        return table(rows) or lines(["nothing is wrong, as far as was looked"])


@dataclass(frozen=True)
class Cure:
    """One piece of advice.

    Attributes:
        text: words without a full stop; {} stands for the options as they are typed.
        options: that it would set, by name; none for what a person does by hand, or where no value is known.
    """

    text: str
    options: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Symptom:
    """What is seen of a fault in one run.

    Attributes:
        evidence: the measures that show it, by the name under which they are written down.
        cures: what mends it, best first.
        note: a sentence behind the cures.
        severity: where it is another than the declared one.
    """

    evidence: Mapping[str, float | str]
    cures: Iterable[Cure]
    note: str = ""
    severity: Severity | None = None


@dataclass(frozen=True)
class Curves:
    """A figure of series over the steps of a run, and of levels that they are compared with.

    `series` and `levels` map names, as of `History.series`, to what they are called in the figure.
    """

    title: str
    y: str
    series: Mapping[str, str]
    levels: Mapping[str, str] = field(default_factory=dict)


Figure = Curves | Literal["spread"]


@dataclass(frozen=True)
class Declaration:
    """A finding that the doctor knows. Its function's docstring says what it means.

    Attributes:
        function: from measures and the objective to what is seen of it, or None. What was not measured is NaN.
        severity: where the symptom names no other.
        seen: what is measured and its threshold, for docs/doctor.md.
        cure: what mends it, for docs/doctor.md.
        figure: that shows it on the page of a diagnosis: curves, or the spread of each dimension of the embeddings.
        hides: findings that it explains, which are then not named.
        live: only the monitor of training can see it: the run folder does not hold what it is measured from.
    """

    function: Callable[[Measures, Objective], Symptom | None]
    severity: Severity
    seen: str
    cure: str
    figure: Figure | None
    hides: tuple[str, ...]
    live: bool

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def meaning(self) -> str:
        """A sentence or two."""
        return " ".join((self.function.__doc__ or "").split())

    def __call__(self, measures: Measures, objective: Objective) -> Finding | None:
        symptom = self.function(measures, objective)
        return None if symptom is None else self.of(symptom, objective)

    def of(self, symptom: Symptom, objective: Objective) -> Finding:
        """The finding of a symptom, with advice that fits the run."""
        advice = advise(objective, *symptom.cures, note=symptom.note)
        return Finding(self.name, symptom.severity or self.severity, symptom.evidence, advice)


def finding(
    severity: Severity,
    *,
    seen: str,
    cure: str,
    words: Mapping[str, str] | None = None,
    figure: Figure | None = None,
    hides: tuple[str, ...] = (),
    live: bool = False,
) -> Callable[[Callable[[Measures, Objective], Symptom | None]], Declaration]:
    """Decorator that declares a finding, in a file of `pullpush/doctor/findings/`. See `Declaration`.

    `words` are names of evidence that are not plain, each with what it is called in a sentence.
    """
    _WORDS.update(words or {})
    return lambda function: Declaration(function, severity, seen, cure, figure, hides, live)


def words(name: str) -> str:
    """What a piece of evidence is called in a sentence."""
    return _WORDS.get(name, name.replace("_", " "))


def shown(value: float | str) -> str:
    """A number as people read it: whole numbers whole, others with four digits; words as they are."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def advise(objective: Objective, *cures: Cure, note: str = "") -> str:
    """The cures as one sentence, and a note behind it.

    Options that the run has already, or that it can't take, are left out; and with its last option the cure.
    """
    texts = []
    for cure in cures:
        left = typed(possible(objective, cure))
        if left or not cure.options:
            texts.append(cure.text.format(left).removesuffix(": "))
    sentence = "; or ".join(filter(None, texts)) or "the options that are known to help are set already"
    return f"{sentence[0].upper()}{sentence[1:]}.{f' {note}' if note else ''}"


def possible(objective: Objective, cure: Cure) -> dict[str, Value]:
    """The options of a cure that the run can take and has not already."""
    return {name: value for name, value in cure.options.items() if _helps(objective, name, value)}


def typed(options: Mapping[str, Value]) -> str:
    """Options as they are typed."""
    return " ".join(f"--{name} {_typed(value)}" for name, value in options.items())


def lower_rate(objective: Objective, by: float = 10, most: float = 1.0) -> dict[str, Value]:
    """The learning rate divided by so much, and at most `most`; nothing where it is not known."""
    return {} if objective.lr is None else {"optimizer.lr": float(f"{min(most, objective.lr / by):.0e}")}


def freeze(objective: Objective, frozen: bool) -> dict[str, Value]:
    """The option that freezes the backbone, or lets it learn, in the words in which the run says what learns."""
    if objective.run.get("encoder.tune", "auto") == "auto":
        return {"encoder.freeze": frozen}
    return {"encoder.tune": "head" if frozen else "all"}


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
    return f'"{value}"' if " " in str(value) else str(value)
