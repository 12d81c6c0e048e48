"""A hit: an item of an index, and how close it is to a query."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pullpush.errors import UserError
from pullpush.escape import readable
from pullpush.images import open_rgb
from pullpush.notebook import lines, thumbnails
from pullpush.search.calibration import WEAK

__all__ = ["IMPROBABLE", "Hit", "Hits"]

IMPROBABLE = 0.1
"""Hits below this probability are marked as weak."""


@dataclass(frozen=True)
class Hit:
    """One hit.

    Attributes:
        id: of the item.
        score: the inner product with the query, a cosine.
        path: of its file.
        label: its class, "" for none.
        text: its texts.
        category, domain: "" for none.
        closeness: the score read against the collection: 0 for what nonsense finds, 1 for a good answer (see
            `calibration.py`).
        probability: that it is of the query's class, by the model's decision (see `chances.py`); None without one, and
            for queries with texts or with something to move away from.
    """

    id: int
    score: float
    path: str
    label: str
    text: list[str]
    category: str = ""
    domain: str = ""
    closeness: float = 1.0
    probability: float | None = None

    @property
    def weak(self) -> bool:
        """Whether less than one in ten such hits is of the query's class; where there is no probability, whether it is
        hardly closer than what nonsense finds: a closeness below 0.2."""
        return self.closeness < WEAK if self.probability is None else self.probability < IMPROBABLE

    def as_dict(self) -> dict[str, Any]:
        """What `pullpush search --json` prints of it."""
        shown = ("id", "score", "closeness", "probability", "weak", "path", "label", "text")
        return {name: getattr(self, name) for name in shown}


class Hits(list[Hit]):
    """Hits, closest first."""

    def __repr__(self) -> str:
        return f"Hits({', '.join(_named(hit) for hit in self)})"

    def _repr_html_(self) -> str:
        """Their images, each with its class and its score."""
        images = []
        for hit in self:
            with suppress(UserError):  # a file that is gone since
                images.append((open_rgb(hit.path), _named(hit)))
        return thumbnails(images) if images else lines([repr(self)])


def _named(hit: Hit) -> str:
    return f"{readable(hit.label)} {hit.score:.2f}".strip()
