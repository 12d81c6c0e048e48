"""What `pullpush evaluate --rerank` says of the choice."""

from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pullpush.evaluation import Chosen, Evaluation

__all__ = ["in_words", "timed", "tried"]


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
