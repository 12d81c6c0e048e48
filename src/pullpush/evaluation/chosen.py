"""Which re-ranking to use: the best of a few, on validation classes."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    @property
    def best(self) -> Tried:
        """What the chosen one gives there."""
        return next(each for each in self.tried if each.options == self.options)

    def values(self) -> dict[str, Any]:
        """For metrics.json: on what it was chosen, what it gives there and what none does, and how many times the
        ranking takes as long."""
        best, none = self.best, self.tried[0]
        return {
            "items": self.items,
            "classes": self.classes,
            "tried": len(self.tried),
            "none": {name: none.metrics[name] for name in (KEPT, CHOSEN_BY)},
            "chosen": {name: best.metrics[name] for name in (KEPT, CHOSEN_BY)},
            "cost": round(best.seconds / none.seconds, 2),
        }


def choose_rerank(
    embeddings: Any, items: Items, among: str | Sequence[Rerank] = "auto", *, queries: Any = None, seed: int = 0
) -> Chosen:
    r"""The re-ranking with the fewest neighbours of those whose MAP@R on these items can't be told from the best.

    Settings that lower recall@1 are left out; no re-ranking is a setting, too. A MAP@R can't be told from the best if
    it is lower by no more than the standard error of the difference. With the differences $d_i$ of the $n$ queries, of
    mean $\bar d$, in $C$ classes, that is $\sqrt{\frac{C}{C - 1} \sum_c (\sum_{i \in c} (d_i - \bar d))^2} \,/ n$:
    queries of one class are not independent. The highest alone would be that of the few classes of a validation, with
    many neighbours, which then harm on other classes.

    Args:
        embeddings: `[n, dim]`, rows as in `items`.
        items: the validation items, never those of the test.
        among: `auto` for the whole of `METHODS`, one of its names, or what to try.
        queries: `[n, dim]`, the embeddings of the same items as queries, where these are others (test views).
        seed: as in `evaluate`.

    Raises:
        UserError: an unknown method, no items, or as `evaluate_items` does.

    Source: the rule of one standard error, Breiman et al., Classification and Regression Trees, 1984, section 3.4.3.
    """
    if isinstance(among, str):
        if among not in ("auto", *METHODS):
            hint = did_you_mean(among, ("auto", *METHODS), f"choose auto or one of {', '.join(METHODS)}", "{!r}")
            raise UserError(f"there is no method of re-ranking {among!r}: {hint}")
        among = list(chain.from_iterable(METHODS.values())) if among == "auto" else METHODS[among]
    if not len(items):
        raise UserError("there are no validation items to choose a re-ranking on; name one, such as expand=3")
    protocol = replace(protocol_for(items), draws=0, ks=(1,))
    tried, found = [], []
    for options in (Rerank(), *among):
        start = time.perf_counter()
        result = evaluate_items(
            embeddings, items, protocol, queries=queries, nmi=False, neighbours=0, rerank=options, seed=seed
        )
        tried.append(Tried(options, result.metrics, time.perf_counter() - start))
        counted = result.per_query[result.counted]
        found.append(counted[CHOSEN_BY].to_numpy())
    allowed = [row for row, each in enumerate(tried) if each.metrics[KEPT] >= tried[0].metrics[KEPT]]
    best = max(allowed, key=lambda row: tried[row].metrics[CHOSEN_BY])
    labels = counted["label"].to_numpy()
    alike = [row for row in allowed if not _lower(found[row], found[best], labels)]
    fewest = min(tried[row].options.neighbours for row in alike)
    rows = [row for row in alike if tried[row].options.neighbours == fewest]
    chosen = max(rows, key=lambda row: tried[row].metrics[CHOSEN_BY])
    return Chosen(tried[chosen].options, tuple(tried), len(items), items.table["label"].nunique())


def _lower(values: NDArray[np.float64], best: NDArray[np.float64], labels: NDArray[Any]) -> bool:
    """Whether the values are lower than the best by more than the standard error of that."""
    _, of_class = np.unique(labels, return_inverse=True)
    classes, difference = int(of_class.max()) + 1, best - values
    sums = np.bincount(of_class, difference - difference.mean())
    error = math.sqrt(classes / max(classes - 1, 1) * float(sums @ sums)) / len(labels)
    return bool(difference.mean() > error)
