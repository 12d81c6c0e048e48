"""The re-ranking of a run: named by its options, or chosen on the validation classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pullpush.encoders.rerank import Rerank, rerank_of
from pullpush.evaluation import Chosen, choose_rerank
from pullpush.evaluation.chosen import METHODS
from pullpush.evaluation.retrieval import Sides
from pullpush.progress import say, work

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["Reranking", "named_rerank", "reranking_of"]

MOST = 10_000
"""Validation items up to which a choice takes less than a minute: it ranks them 28 times."""


@dataclass(frozen=True)
class Reranking:
    """How the hits of a model are re-ranked, and how that was chosen; None where it was named, or nothing was."""

    options: Rerank
    chosen: Chosen | None = None

    def values(self) -> dict[str, Any]:
        """For metrics.json."""
        return {"options": str(self.options), "validation": self.chosen and self.chosen.values()}


def named_rerank(option: str) -> Rerank | None:
    """What the option names; None where it leaves that to the validation classes.

    Raises:
        UserError: it is no way to re-rank.
    """
    return None if option in ("auto", *METHODS) else rerank_of(option)


def reranking_of(run: Run, validation: Sides) -> Reranking:
    """The re-ranking of the weights that are kept.

    Args:
        run: whose options say how.
        validation: its validation items.
    """
    option, items = run.config.rerank, run.task.splits["validation"]
    named = named_rerank(option)
    if named is not None:
        return Reranking(named)
    texts = run.task.queries()[0] is not None  # what is best among images need not be for texts
    if texts or not items.table["label"].duplicated().any():
        return Reranking(Rerank())
    if len(items) > MOST:
        say(
            f"re-ranking is not chosen: {len(items):,} validation items would take minutes; a smaller "
            "--data.validation takes less, and one that is named is used (--rerank expand=3,augment=3)"
        )
        return Reranking(Rerank())
    with work("choosing a re-ranking"):
        chosen = choose_rerank(validation.gallery, items, option, queries=validation.queries)
    return Reranking(chosen.options, chosen)
