"""Which test views a model is used with: chosen on validation classes, under a cost."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from pullpush.encoders.views import View, Views, mean_of

__all__ = ["CANDIDATES", "choose_views", "passes"]

CANDIDATES = tuple(View(scale, flip=flip) for scale in (1.0, 1.25, 1.5) for flip in (False, True))
"""Views among which a run chooses."""


def passes(candidates: Sequence[View], validation: int, test: int, query_cost: float, gallery_cost: float) -> float:
    """How many images of the plain view go through the encoder, at most, to choose views and to test them.

    Args:
        candidates: among which are chosen.
        validation: items of the validation classes.
        test: items of the test.
        query_cost: the most that a query may cost.
        gallery_cost: the same of an item of the gallery.
    """
    cost = sum(view.cost for view in candidates)
    return cost * validation + min(cost, query_cost + gallery_cost) * test


def choose_views(
    each: Mapping[View, Tensor],
    score: Callable[[Tensor, Tensor], float],
    query_cost: float,
    gallery_cost: float,
) -> Views:
    """The views by which a model finds the most, found greedily.

    The view that finds the most by itself, for queries and gallery, then whichever adds the most, as long as one does
    and the query's cost allows it. From there on the gallery alone gets more.

    Args:
        each: embeddings `[n, dim]` of the validation items in each candidate; the plain view is one of them.
        score: of embeddings of queries and of the gallery, larger is better.
        query_cost: the most that a query may cost, as a multiple of the plain view.
        gallery_cost: the same of an item of the gallery.
    """

    def best(taken: tuple[View, ...], cost: float, of: Callable[[tuple[View, ...]], float]) -> tuple[View, ...]:
        """`taken`, and one by one what adds the most to it."""
        reached = of(taken) if taken else float("-inf")
        while True:
            spent = sum(view.cost for view in taken)
            fitting = [view for view in each if view not in taken and spent + view.cost <= cost + 1e-9]
            scores = {view: of((*taken, view)) for view in fitting}
            added = max(scores, key=lambda view: scores[view], default=None)
            if added is None or scores[added] <= reached:
                return tuple(sorted(taken))
            taken, reached = (*taken, added), scores[added]

    def both(views: tuple[View, ...]) -> float:
        seen = mean_of(each, views)
        return score(seen, seen)

    query = best((), max(1.0, query_cost), both)
    asking = mean_of(each, query)
    return Views(query, best(query, max(gallery_cost, 1.0), lambda views: score(asking, mean_of(each, views))))
