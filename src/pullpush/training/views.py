"""The test views of a run: said by its options, or chosen on the validation classes where they show a gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pullpush.encoders import View, Views
from pullpush.evaluation.retrieval import Sides
from pullpush.evaluation.views import CANDIDATES, choose_views, passes
from pullpush.progress import say
from pullpush.runs.gain import Gain, gain_of
from pullpush.runs.groups import ViewsConfig

if TYPE_CHECKING:
    from pullpush.training.run import Run

__all__ = ["Seen", "said_views", "see", "sides_of"]

# Pixels through the encoder that choosing and testing views may always cost: 50,000 images of 64 x 64, or 4,000 of
# 224 x 224. More than that they may cost where training had as many: three times an image for each step with it.
FREE = 50_000 * 64 * 64
# Standard errors that the gain of views must exceed, as the best of about twenty sets of them is taken.
ERRORS = 1.0


@dataclass(frozen=True)
class Seen:
    """The views of a run.

    Attributes:
        views: of its model.
        gain: what they find more than the plain view on the validation classes, where that was measured.
        validation: the embeddings of the validation items in each of them, where they were made for the choice.
    """

    views: Views
    gain: Gain | None = None
    validation: Mapping[View, Tensor] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """For metrics.json."""
        cost = {f"{role}_cost": self.views.cost(role) for role in ("query", "gallery")}
        return {**self.views.values(), **cost, "gain": self.gain and self.gain.values()}


def sides_of(run: Run, split: str, seen: Mapping[View, Tensor] | None = None) -> Sides:
    """The items of a split in the views of the model.

    Args:
        run: of the model.
        split: which.
        seen: their embeddings in each view, where they were made before.
    """
    task, device = run.task, run.fabric.device
    if not len(task.splits[split]):
        return Sides(np.empty((0, 0), np.float32))
    if task.views.plain:
        return Sides(_numpy(next(iter(task.embed(split, device).values()))))
    queries, gallery = task.views.seen(seen or task.embed_views(split, task.views.all, device))
    return Sides(_numpy(gallery), _numpy(queries), task.views)


def _numpy(embeddings: Tensor) -> NDArray[np.float32]:
    return embeddings.float().cpu().numpy()


def said_views(own: ViewsConfig) -> Views | None:
    """The views that the options name; None where they name none.

    Raises:
        UserError: something that is no view.
    """
    if not own.query and not own.gallery:
        return None
    query, gallery = (tuple(map(View.of, views)) for views in (own.query or own.gallery, own.gallery or own.query))
    return Views(query, gallery)


def see(run: Run) -> Seen:
    """The views in which the model of a run is used from now on; its weights are those that are kept."""
    own, task, device = run.config.views, run.task, run.fabric.device
    said = said_views(own)
    if said is not None or own.choose == "none" or not len(task.splits["validation"]):
        return Seen(said or Views())
    most, flips = max(own.query_cost, own.gallery_cost), run.config.encoder.flip
    candidates = task.can_see([view for view in CANDIDATES if view.cost <= most and (flips or not view.flip)])
    if len(candidates) < 2 or not _affordable(run, candidates):
        return Seen(Views())
    embedded, each = task.embed_texts("validation", device), task.embed_views("validation", candidates, device)

    def evaluation(queries: Tensor, gallery: Tensor) -> Any:
        return task.evaluate("validation", embedded, (queries, gallery))

    def score(queries: Tensor, gallery: Tensor) -> float:
        return float(evaluation(queries, gallery).metrics[task.chosen_by])

    views, plain = choose_views(each, score, own.query_cost, own.gallery_cost), Views().seen(each)
    gain = gain_of(evaluation(*plain), evaluation(*views.seen(each)), task.chosen_by, ERRORS)
    if not (gain and gain.shown):
        return Seen(Views(), gain)
    # views are made from squares of the largest side: with another one they would not be quite the same
    size = run.config.encoder.size
    kept = views.side(size) == max(view.side(size) for view in candidates)
    return Seen(views, gain, {view: each[view] for view in views.all} if kept else {})


def _affordable(run: Run, candidates: Sequence[View]) -> bool:
    """Whether it is in proportion to the training; a run with `minutes` has planned for it."""
    config, own, splits = run.config, run.config.views, run.task.splits
    one = config.encoder.size**2
    looked = one * passes(candidates, len(splits["validation"]), len(splits["test"]), own.query_cost, own.gallery_cost)
    batch = run.task.sampler.classes * run.task.sampler.samples
    trained = 0 if config.encoder.frozen else 3 * one * run.step * batch
    if config.minutes or looked <= max(FREE, trained):
        return True
    say(
        f"test views are left out: choosing and testing them would take {looked / max(trained, FREE):.1f} times as "
        "long as training; a smaller --views.gallery_cost costs less, and views that are named are used (--views.query)"
    )
    return False
