"""`pullpush evaluate --rerank`: what is done, and what is said of the choice."""

from time import perf_counter
from typing import TYPE_CHECKING, Any

from pullpush.cli.items import embed_readable, of_the_run
from pullpush.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pullpush.encoders.model import Model
    from pullpush.evaluation import Chosen, Evaluation, Rerank

__all__ = ["in_words", "reranking_of", "timed", "tried"]


def tried(chosen: "Chosen") -> dict[str, Any]:
    """For --json: all that was tried, and on what."""
    shown = [
        {"options": str(each.options), "seconds": each.seconds, **{n: each.metrics[n] for n in ("recall@1", "map@r")}}
        for each in chosen.tried
    ]
    return {"split": "validation", "items": chosen.items, "classes": chosen.classes, "tried": shown}


def in_words(chosen: "Chosen | None") -> list[str]:
    """A sentence about the choice, where there was one."""
    if chosen is None:
        return []
    one, other = (
        f"recall@1 {each.metrics['recall@1']:.4f}, MAP@R {each.metrics['map@r']:.4f}"
        for each in (chosen.best, chosen.tried[0])
    )
    of = f"of {len(chosen.tried)} on {chosen.classes} validation classes ({chosen.items} items)"
    return [f"chosen {of}: {chosen.options} ({one}; none: {other})"]


def timed(work: "Callable[[], Evaluation]") -> "tuple[Evaluation, float]":
    """What the work gives, and its seconds."""
    start = perf_counter()
    return work(), perf_counter() - start


def reranking_of(wanted: str, model: "Model", folder: str) -> "tuple[Rerank, Chosen | None]":
    """What is to be done, and how it was chosen where it was left open.

    Args:
        wanted: of `--rerank`.
        model: that re-ranks.
        folder: of its run, or its own.

    Raises:
        UserError: words that are no options, or no validation classes to choose on.
    """
    from pullpush.evaluation import choose_rerank
    from pullpush.evaluation.chosen import METHODS
    from pullpush.evaluation.rerank import rerank_of

    if wanted not in ("auto", *METHODS):
        return rerank_of(wanted), None
    items = of_the_run(folder)
    validation = items.split("validation") if items is not None else None
    if validation is None or not len(validation):
        raise UserError(
            f"{folder!r} has no validation classes to choose a re-ranking on: name one, such as "
            "--rerank expand=3, or give the folder of a run that was trained with --data.validation 0.1"
        )
    queries, embeddings, validation = embed_readable(model, validation)
    chosen = choose_rerank(embeddings, validation, wanted, queries=None if model.views.plain else queries)
    return chosen.options, chosen
