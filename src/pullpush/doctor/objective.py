"""What is minimised, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from pullpush.maths.choice import Loss
from pullpush.maths.losses import REGISTRY
from pullpush.maths.losses.n_pair import n_pair
from pullpush.maths.losses.nt_xent import nt_xent
from pullpush.names import dotted

__all__ = ["Objective", "objective_of"]


@dataclass(frozen=True)
class Objective:
    """What is minimised and how, as far as findings and their advice depend on it.

    Attributes:
        loss: with its options; None where it is not known.
        similarity: what it compares with; by default the one of the loss's paper.
        learned: present values of the loss's options that are learned in training.
        run: all options of the run by name ("optimizer.lr"), as they were given; empty for bare embeddings.
        limits: the largest values of options that data and encoder allow, where they are known.
    """

    loss: Loss | None = None
    similarity: str = ""
    learned: Mapping[str, float] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = self.loss.traits.similarity if self.loss else "cosine"
        object.__setattr__(self, "similarity", self.similarity or own)

    def option(self, name: str) -> Any:
        """The present value of an option of the loss, or None."""
        return {**(self.loss.options if self.loss else {}), **self.learned}.get(name)

    @property
    def lr(self) -> float | None:
        """The highest learning rate, where it is known."""
        lr: float | None = self.run.get("optimizer.lr")
        return lr

    @property
    def steps(self) -> int:
        """Of the run, 0 where that is not known."""
        return int(self.run.get("steps", 0))

    def learns(self, name: str) -> bool:
        """Whether an option of the loss is learned in training."""
        learned, texts = self.run.get("learn"), self.run.get("task", "").endswith("-text")
        return learned == name or (learned == "auto" and name == "temperature" and texts)

    @property
    def softmax(self) -> bool:
        """Whether the loss is the cross entropy of each positive among the negatives, with a temperature."""
        return self.loss is not None and self.loss.made_by(n_pair, nt_xent) and not self.option("one_vs_one")


def objective_of(config: Mapping[str, Any], limits: Mapping[str, float] | None = None) -> Objective:
    """The objective of a run.

    Args:
        config: of the run, as nested plain values.
        limits: the largest values of options that data and encoder allow, where they are known.

    Raises:
        UserError: an option of the loss has a value that it does not take.
    """
    loss = REGISTRY[config["loss"]["name"]]()
    # A folder of another version may have options that are gone.
    loss = loss.replace(**{name: value for name, value in config["loss"].items() if name in loss.options})
    # As they are typed: the name of a thing by the thing's ("miner").
    run = {name.removesuffix(".name"): value for name, value in dotted({**config, "loss": loss.named()}).items()}
    known = {"memory.start_step": run.get("steps", inf), **(limits or {})}
    return Objective(loss, config.get("similarity") or "", run=run, limits=known)
