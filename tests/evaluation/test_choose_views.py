"""The choice of test views under a cost."""

import pytest
import torch
from torch import Tensor

from pullpush.encoders.views import View, Views
from pullpush.evaluation.views import CANDIDATES, choose_views, passes


def scored(worth: dict[View, float], gallery_alone: float = 0.0):
    """Embeddings that stand for the views, and a score that adds up what each of them is worth."""
    views = list(worth)
    each = {view: torch.eye(len(views))[[place]] for place, view in enumerate(views)}

    def score(queries: Tensor, gallery: Tensor) -> float:
        asked, searched = ({v for v, x in zip(views, row[0], strict=True) if x > 0} for row in (queries, gallery))
        return sum(worth[v] for v in asked) + sum(worth[v] + gallery_alone for v in searched)

    return each, score


def test_the_costs_are_kept() -> None:
    each, score = scored({view: 1.0 for view in CANDIDATES})
    for query, gallery in ((1.0, 1.0), (2.0, 4.0), (3.0, 6.5), (100.0, 100.0)):
        views = choose_views(each, score, query, gallery)
        assert views.cost("query") <= query
        assert views.cost("gallery") <= max(query, gallery)
        assert set(views.query) <= set(views.gallery)
    assert set(views.gallery) == set(CANDIDATES)


def test_what_does_harm_is_left_out() -> None:
    good, bad, best = View(), View(flip=True), View(1.25)
    each, score = scored({good: 0.2, bad: -0.1, best: 0.5})
    assert choose_views(each, score, 10, 10) == Views((good, best), (good, best))
    assert choose_views(each, score, 1.5625, 1.5625) == Views((best,), (best,))
    assert choose_views(each, score, 1, 1) == Views((good,), (good,))


def test_the_gallery_alone_has_more() -> None:
    first, second = View(), View(1.25)
    each, score = scored({first: 0.5, second: 0.1})
    assert choose_views(each, score, 1, 10) == Views((first,), (first, second))


def test_how_many_images_go_through() -> None:
    few = [View(), View(flip=True)]
    assert passes(few, 10, 100, 3, 6.5) == 2 * 10 + 2 * 100  # no more than there are candidates
    assert passes(CANDIDATES, 10, 100, 1, 2) == pytest.approx((2 + 1.25**2 + 2 * 1.375**2 + 1.5**2) * 10 + 3 * 100)
