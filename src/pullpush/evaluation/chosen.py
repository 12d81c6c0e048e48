"""Which re-ranking to use: the best of a few, on validation classes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation.protocols import evaluate_items, protocol_for
from pullpush.evaluation.rerank import Rerank
from pullpush.names import did_you_mean

__all__ = ["CHOSEN_BY", "METHODS", "Chosen", "Tried", "choose_rerank"]

CHOSEN_BY, KEPT = "map@r", "recall@1"
FEW = (1, 2, 3, 5, 8)
METHODS: dict[str, tuple[Rerank, ...]] = {
    "expand": tuple(Rerank(expand=n) for n in FEW),
    "augment": tuple(Rerank(augment=n) for n in FEW),
    "both": tuple(Rerank(expand=n, augment=n, alpha=alpha) for n in FEW for alpha in (1.0, 3.0)),
    "reciprocal": tuple(Rerank(reciprocal=k) for k in (3, 4, 6, 8, 12, 20)),
}
"""What is tried of each method. The values of k are those of classes of 2 to 20 items."""


@dataclass(frozen=True)
class Tried:
    """A way to re-rank, what it gives on the validation classes, and the seconds that the ranking took."""

    options: Rerank
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Chosen:
    """The best of what was tried; `tried` begins with no re-ranking at all."""

    options: Rerank
    tried: tuple[Tried, ...]
    items: int
    classes: int


def choose_rerank(embeddings: Any, items: Items, among: str | Sequence[Rerank] = "auto", *, seed: int = 0) -> Chosen:
    """The re-ranking with the highest MAP@R on these items that lowers recall@1 of them not at all; none, where no
    other is better.

    Args:
        embeddings: `[n, dim]`, rows as in `items`.
        items: the validation items, never those of the test.
        among: `auto` for the whole of `METHODS`, one of its names, or what to try.
        seed: as in `evaluate`.

    Raises:
        UserError: an unknown method, no items, or as `evaluate_items` does.
    """
    if isinstance(among, str):
        if among not in ("auto", *METHODS):
            hint = did_you_mean(among, ("auto", *METHODS), f"choose auto or one of {', '.join(METHODS)}", "{!r}")
            raise UserError(f"there is no method of re-ranking {among!r}: {hint}")
        among = list(chain.from_iterable(METHODS.values())) if among == "auto" else METHODS[among]
    if not len(items):
        raise UserError("there are no validation items to choose a re-ranking on; name one, such as expand=3")
    protocol = replace(protocol_for(items), draws=0, ks=(1,))
    tried = []
    for options in (Rerank(), *among):
        start = time.perf_counter()
        result = evaluate_items(embeddings, items, protocol, nmi=False, neighbours=0, rerank=options, seed=seed)
        tried.append(Tried(options, result.metrics, time.perf_counter() - start))
    least = tried[0].metrics[KEPT]
    best = max((each for each in tried if each.metrics[KEPT] >= least), key=lambda each: each.metrics[CHOSEN_BY])
    return Chosen(best.options, tuple(tried), len(items), items.table["label"].nunique())
