"""What anchors are compared with: the batch alone, with a memory (`memory.py`), or with proxies (`proxies.py`)."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from pullpush.criterion import distributed
from pullpush.criterion.columns import Columns
from pullpush.criterion.given import Side
from pullpush.maths.choice import Choice

__all__ = ["Batch", "References", "Term"]


class Term(NamedTuple):
    """Columns whose loss is one term of the criterion's.

    Attributes:
        parts: the columns, in parts.
        weight: of the term, after the first.
        changing: columns will have changed when the gradient is asked for.
    """

    parts: list[Columns]
    weight: float = 1.0
    changing: bool = False


class References(Protocol):
    """Where the columns of one direction come from."""

    def fits(self, name: str, side: Side, relation: Choice[object]) -> None:
        """
        Args:
            name: of the embeddings, for the message.
            side: anchors or references, as they were given.
            relation: that of the criterion.

        Raises:
            UserError: they can't be compared with these references.
        """

    def terms(self, batch: Columns, *, training: bool, unit_length: bool) -> Iterator[Term]:
        """What to compare with, term by term; what is to be done after the step follows the last.

        Args:
            batch: this rank's batch, or the references that came with it.
            training: whether the memory and the other ranks take part.
            unit_length: vectors are compared at length 1.
        """


class Batch:
    """The batch itself, or the references that came with it; in training those of all ranks."""

    def fits(self, name: str, side: Side, relation: Choice[object]) -> None:
        """All that the criterion takes."""

    def terms(self, batch: Columns, *, training: bool, unit_length: bool) -> Iterator[Term]:
        """One."""
        yield Term([distributed.gather(batch) if training else batch])
