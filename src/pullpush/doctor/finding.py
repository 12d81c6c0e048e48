"""What a finding is, and the numbers that findings are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["SEVERITIES", "Finding", "Measures", "Objective", "shown", "words"]

# Worst first: training is in vain until it is mended; it costs quality; good to know.
SEVERITIES = ("critical", "warning", "note")
# Evidence whose name alone does not say what it is.
WORDS = {
    "mean_cosine": "mean cosine of unrelated items",
    "chance": "loss of similarities that are all alike",
    "floor": "lowest loss that this temperature allows",
    "gap": "distance between the centres of images and texts",
    "matching_cosine": "mean cosine of matching pairs",
    "same_side_cosine": "mean cosine within one modality",
    "dead": "dimensions that are the same for all items",
    "share": "share of the variance in one dimension",
    "rows": "embeddings with NaN or infinity",
    "first_tensor": "first tensor that is no number",
    "largest_norm_error": "largest difference of a length from 1",
    "share_of_items": "share of items with an equal one of another class",
    "update_over_weights": "change of the weights in one step, as a share of their length",
    "weight_growth": "length of the weights, as a multiple of that at the first step",
    "gradient_norm": "norm of the gradient",
    "lasting_drift": "change within the memory, as a share of the distance of unrelated items",
    "memory_drift": "mean squared change within the memory",
    "memory_age": "mean age in the memory, in steps",
    "memory_oldest": "oldest in the memory, in steps",
    "training_recall": "recall@1 in training batches",
    "training_recall_at_best": "recall@1 in training batches at the best validation",
    "validation_recall": "recall@1 on validation classes",
    "best_validation_recall": "best recall@1 on validation classes",
    "best_validation_step": "step of the best recall@1",
    "kept_step": "step whose weights are kept",
    "positive": "mean similarity of positives",
    "negative": "mean similarity of negatives",
    "effective_negatives": "negatives that share an anchor's gradient",
    "negatives": "negatives of an anchor",
    "active_share": "share of triplets that violate the margin",
    "anchors_with_pairs": "share of anchors that keep a pair",
    "anchors_with_positive": "share of anchors with a positive",
    "queries_with_positive": "share of queries with a positive",
    "tensors_missing": "tensors of the backbone without weights",
    "tensors_loaded": "tensors of the backbone that were loaded",
    "image_mean_cosine": "mean cosine of unrelated images",
    "text_mean_cosine": "mean cosine of unrelated texts",
    "embeddings_mean_cosine": "mean cosine of unrelated items",
    "map@r_before": "MAP@R before training",
    "map@r_after": "MAP@R after training",
    "recall@1_before": "recall@1 before training",
    "recall@1_after": "recall@1 after training",
}


class Measures(dict[str, float]):
    """Numbers by name. What was not measured is NaN, which no threshold is above or below."""

    def __missing__(self, name: str) -> float:
        return float("nan")


@dataclass(frozen=True)
class Objective:
    """What is minimised and how, as far as findings and their advice depend on it.

    Attributes:
        loss: its name; empty where it is not known.
        similarity: what it compares with.
        options: of the loss, with their defaults; what is learned with its present value.
        run: all options of the run by name ("optimizer.lr"), as they were given; empty for bare embeddings.
        limits: the largest values of options that data and encoder allow, where they are known.
    """

    loss: str = ""
    similarity: str = "cosine"
    options: Mapping[str, Any] | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    def option(self, name: str) -> Any:
        """An option of the loss, or None."""
        return (self.options or {}).get(name)

    @property
    def lr(self) -> float | None:
        """The highest learning rate, where it is known."""
        return self.run.get("optimizer.lr")

    @property
    def steps(self) -> int:
        """Of the run, 0 where that is not known."""
        return int(self.run.get("steps", 0))

    def learns(self, name: str) -> bool:
        """Whether an option of the loss is learned in training."""
        learned = self.run.get("learn")
        return learned == name or (learned == "auto" and name == "temperature" and self.run.get("task") == "image-text")

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
        seen = ", ".join(f"{words(name)} {shown(value)}" for name, value in self.evidence.items())
        return f"{self.severity}: {self.finding} ({seen}). {self.advice}"


def words(name: str) -> str:
    """What a piece of evidence is called in a sentence."""
    return WORDS.get(name, name.replace("_", " "))


def shown(value: float | str) -> str:
    """A number as people read it: whole numbers whole, others with four digits; words as they are."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
