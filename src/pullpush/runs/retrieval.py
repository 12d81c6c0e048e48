"""What the model of a run finds among its test items in each way that it can be used, of what training embedded."""

import copy
import time
from dataclasses import replace

from pullpush.data.items import Items
from pullpush.encoders.compression import Compression
from pullpush.encoders.model import Model
from pullpush.encoders.rerank import Rerank
from pullpush.encoders.views import Views
from pullpush.errors import UserError
from pullpush.evaluation.retrieval import Sides, Way, ways
from pullpush.runs.reader import Absent, RunFolder, or_else

__all__ = ["MOST", "compression_of", "sides_in_views", "ways_of"]

MOST = 20_000
"""Items of the test up to which a run does this at its end; of more, `pullpush evaluate RUN --table` does."""
TIMED = 12
"""Queries that are timed."""


def ways_of(run: RunFolder, model: Model, rerank: Rerank | None = None) -> list[Way]:
    """The ways to use the model of a run, on its test items.

    Args:
        run: the folder.
        model: of the run; its encoder is timed with some of the images.
        rerank: in the place of the model's own.

    Raises:
        Missing: nothing was tested, or embeddings are not there; `Absent` where items have no classes.
    """
    items = run.split("test")
    if not run.labelled:
        raise Absent("the items have no classes")
    plain = Sides(run.embeddings("test", "after"), query_ms=_milliseconds(model, items, Views()))
    seen = None if model.views.plain else or_else(lambda: sides_in_views(run, model.views), None)
    if seen is not None:
        seen = replace(seen, query_ms=_milliseconds(model, items, model.views))
    before = or_else(lambda: run.embeddings("test", "before"), None)
    reranking = model.rerank if rerank is None else rerank
    return ways(items, plain, before=before, seen=seen, rerank=reranking, compression=compression_of(run, model))


def sides_in_views(run: RunFolder, views: Views) -> Sides:
    """The test items in the views of the model. Raises: `Missing` where they were not embedded so."""
    return Sides(run.matrix("test-views"), run.matrix("test-views-query"), views)


def compression_of(run: RunFolder, model: Model) -> Compression:
    """That of the model; of a bundle that was written before it had one, fitted on the training embeddings."""
    if model.compression.components is not None:
        return model.compression
    trained = or_else(lambda: run.matrix("train-after"), None)
    return model.compression if trained is None else Compression.fit(trained, "pca")


def _milliseconds(model: Model, items: Items, views: Views) -> float | None:
    """To embed one query alone, from its decoded image; the least of some. None where there are no images."""
    if "image" not in model.encoders:
        return None
    looking = copy.copy(model)
    looking.views = views
    try:
        images = [items.open(row) for row in range(min(TIMED, len(items)))]
    except UserError:
        return None
    taken = []
    for image in images:
        start = time.perf_counter()
        looking.embed([image], role="query")
        taken.append(1000 * (time.perf_counter() - start))
    return min(taken)
