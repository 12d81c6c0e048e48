"""What the parts of the page are made of: blocks, and the run with what several parts compute from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure

from pullpush.data.items import Items
from pullpush.reports import style
from pullpush.reports.neighbours import Ranking, rank
from pullpush.reports.projection import Map, make_map
from pullpush.reports.run import Missing, Run
from pullpush.reports.style import Picture, Theme


@dataclass(frozen=True)
class Block:
    """One piece of a section; the template shows what is filled. `caption` may stand under any of them."""

    caption: str = ""
    heading: str = ""
    picture: Picture | None = None
    alt: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    lines: Sequence[str] = ()
    code: str = ""
    script: tuple[str, str, str] | None = None
    missing: str = ""


@dataclass(frozen=True)
class Material:
    """A run and what several parts need from it, computed once."""

    run: Run
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
    def before(self) -> Ranking:
        return rank(self.run.embeddings("test", "before"), self.test)

    @cached_property
    def after(self) -> Ranking:
        return rank(self.run.embeddings("test", "after"), self.test)

    @cached_property
    def rankings(self) -> Mapping[str, Ranking]:
        """The rankings before (where it is there) and after training, in this order."""
        after = {"after": self.after}
        try:
            return {"before": self.before, **after}
        except Missing:
            return after

    @cached_property
    def unseen(self) -> Map:
        return make_map(self.test, self.run.embeddings("test", "after"))

    def picture(self, name: str, draw: Callable[[Theme], Figure], *, alt: str, caption: str) -> Block:
        path = self.run.path / "plots" / f"{name}.png"
        return Block(picture=style.save(draw, path), alt=alt, caption=caption)
