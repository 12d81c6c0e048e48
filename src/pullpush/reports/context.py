"""The run with what several parts of its report compute from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pullpush.data.items import SPLITS, Items
from pullpush.evaluation import Evaluation
from pullpush.reports.page import Block, drawn
from pullpush.reports.projection import Map, make_map
from pullpush.reports.style import Theme
from pullpush.runs.reader import Missing, RunFolder

POINTS = 2000
"""Points of the interactive map: each carries a picture."""


@dataclass(frozen=True)
class Material:
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
        after = {"after": self.after}
        try:
            return {"before": self.run.evaluation("test", "before"), **after}
        except Missing:
            return after

    @cached_property
    def labelled(self) -> bool:
        """Whether items have classes, as far as is known."""
        try:
            return self.run.labelled
        except Missing:
            return True

    @cached_property
    def queried(self) -> str:
        """What the test split is to the model, in words that stand after "of"."""
        try:
            return self.run.queried
        except Missing:
            return "the test split"

    @cached_property
    def unseen(self) -> Map:
        return make_map(self.test, self.run.embeddings("test", "after"))

    @cached_property
    def everything(self) -> Map:
        """One map of all splits that have embeddings after training."""
        splits = self.run.items.table["split"].to_numpy()
        rows, kept = list[NDArray[np.int64]](), list[NDArray[np.float32]]()
        for split in SPLITS:
            try:
                embeddings = self.run.embeddings(split, "after")
            except Missing:
                continue
            if not kept or embeddings.shape[1] == kept[0].shape[1]:
                kept.append(embeddings)
                rows.append(np.flatnonzero(splits == split))
        if not kept:
            raise Missing("No split has embeddings after training.")
        return make_map(self.run.items.select(np.concatenate(rows)), np.concatenate(kept), limit=POINTS)

    def picture(self, name: str, draw: Callable[[Theme], Figure], *, alt: str, caption: str) -> Block:
        return drawn(draw, self.run.path / "plots" / f"{name}.png", caption, alt)
