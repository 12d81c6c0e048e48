"""Which test views a model is used with: chosen on validation classes, under a cost."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations

from torch import Tensor

from pullpush.encoders.views import View, Views, mean_of

__all__ = ["CANDIDATES", "choose_views", "passes"]

CANDIDATES = tuple(map(View.of, ("1", "1 flip", "1.25 flip", "1.375", "1.375 flip", "1.5")))
"""Views among which a run chooses. 1 and 1.375 together cost a query 2.9 times its time; two scales that far apart find
more than one of the same price, or than two that are nearer."""


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
    """The views by which a model finds the most.

    All sets of views that a query may cost are tried, for queries and gallery alike. The gallery then has, one by one,
    what adds the most, as long as one does and its cost allows it.

    Args:
        each: embeddings `[n, dim]` of the validation items in each candidate; the plain view is one of them.
        score: of embeddings of queries and of the gallery, larger is better.
        query_cost: the most that a query may cost, as a multiple of the plain view.
        gallery_cost: the same of an item of the gallery.
    """
    sets = chain.from_iterable(combinations(sorted(each), count) for count in range(1, len(each) + 1))
    affordable = [views for views in sets if _cost(views) <= max(1.0, query_cost)]
    scores = {views: score(seen, seen) for views in affordable for seen in [mean_of(each, views)]}
    query = gallery = max(affordable, key=lambda views: scores[views])
    asking, reached = mean_of(each, query), scores[query]
    while True:
        more = [(*gallery, view) for view in each if view not in gallery]
        wider_scores = {wider: score(asking, mean_of(each, wider)) for wider in more if _cost(wider) <= gallery_cost}
        best = max(wider_scores, key=lambda wider: wider_scores[wider], default=gallery)
        if best == gallery or wider_scores[best] <= reached:
            return Views(query, tuple(sorted(gallery)))
        gallery, reached = best, wider_scores[best]


def _cost(views: Sequence[View]) -> float:
    return sum(view.cost for view in views) - 1e-9  # a cost that is said counts as kept whatever the rounding
