"""A run with what several parts of its report need of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure

from pullpush.data.items import Items
from pullpush.evaluation import Evaluation
from pullpush.reports.page import Block, drawn
from pullpush.reports.style import Theme
from pullpush.runs.reader import Absent, Curve, Missing, RunFolder, or_else

__all__ = ["Context"]


@dataclass(frozen=True)
class Context:
    """A run and what several parts need from it, computed once."""

    run: RunFolder
    window: int = 50
    notes: list[str] = field(default_factory=list)

    @cached_property
    def known_metrics(self) -> Mapping[str, Any]:
        """metrics.json, or nothing and a note where it is not there."""
        try:
            return self.run.metrics
        except Missing as missing:
            self.notes.append(str(missing))
            return {}

    @cached_property
    def test(self) -> Items:
        return self.run.split("test")

    @cached_property
    def after(self) -> Evaluation:
        return self.run.evaluation("test", "after")

    @cached_property
    def evaluations(self) -> Mapping[str, Evaluation]:
        """The evaluations before (where it is there) and after training, in this order."""
        before = or_else(lambda: {"before": self.run.evaluation("test", "before")}, {})
        return before | {"after": self.after}

    @cached_property
    def labelled(self) -> bool:
        """Whether items have classes, as far as is known."""
        return or_else(lambda: self.run.labelled, True)

    @cached_property
    def queried(self) -> str:
        """What the test split is to the model, in words that stand after "of"."""
        return or_else(lambda: self.run.queried, "the test split")

    def said(self, when: str) -> str:
        """When the embeddings are of: "before training", "after training", or of a model that was not trained here."""
        return f"{when} training" if self.run.trained else "not trained here"

    def curves(self, keys: Mapping[str, str]) -> list[Curve]:
        """What was logged under these keys, by the name of each.

        Raises:
            Absent: nothing.
        """
        curves = [self.run.curve(key, name) for key, name in keys.items() if key in self.run.log]
        if not curves:
            raise Absent(f"the log has none of {', '.join(keys)}")
        return curves

    def figure(self, name: str, draw: Callable[[Theme], Figure], *, alt: str, caption: str) -> Block:
        """The block of a figure, which is saved to `plots/`."""
        return drawn(draw, self.run.path / "plots" / f"{name}.png", caption, alt)
