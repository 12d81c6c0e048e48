"""What a model finds in each way that it can be used, and what that costs: one table for all of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pullpush.data.items import Items
from pullpush.encoders.compression import Compression
from pullpush.encoders.rerank import Rerank
from pullpush.encoders.views import Views
from pullpush.evaluation.compression import Dtype, compressed
from pullpush.evaluation.knn import Floats
from pullpush.evaluation.protocols import evaluate_items, protocol_for

__all__ = ["DIMS", "RERANKED", "VIEWS", "VIEWS_RERANKED", "Sides", "Way", "shown", "ways"]

DIMS = (64, 32)
"""Numbers of dimensions, where the model has more."""
CODES: tuple[Dtype, ...] = ("int8", "binary")
VIEWS, RERANKED, VIEWS_RERANKED = "with views", "re-ranked", "views, re-ranked"


@dataclass(frozen=True)
class Way:
    """A way to use a model.

    Attributes:
        name: untrained, trained, with views, re-ranked, 64 dimensions, int8, ...
        metrics: what it finds, at least recall@1 and map@r.
        bytes: of an item in an index.
        query_cost: time to embed a query, as a multiple of the plain view's.
        gallery_cost: the same of an item of the gallery.
        query_ms: milliseconds to embed one query alone, where that was measured.
        ranking_ms: milliseconds of processor time a query to rank all items and to measure what was found, all queries
            together; None for small embeddings, which an index ranks in another way than this.
    """

    name: str
    metrics: dict[str, float]
    bytes: int
    query_cost: float = 1.0
    gallery_cost: float = 1.0
    query_ms: float | None = None
    ranking_ms: float | None = None

    def values(self) -> dict[str, Any]:
        """For metrics.json."""
        costs = ("bytes", "query_cost", "gallery_cost", "query_ms", "ranking_ms")
        found = {name: self.metrics[name] for name in ("recall@1", "map@r")}
        return {"name": self.name, **found, **{name: getattr(self, name) for name in costs}}


@dataclass(frozen=True)
class Sides:
    """Items as they are asked for, and as they are searched among.

    Attributes:
        gallery: float32 `[n, dim]`, of length 1; `[0, 0]` where there are no items.
        queries: the same items as queries, where these are others.
        views: in which they were seen.
        query_ms: milliseconds to embed one query alone.
    """

    gallery: Floats
    queries: Floats | None = None
    views: Views = field(default_factory=Views)
    query_ms: float | None = None


def ways(
    items: Items,
    plain: Sides,
    *,
    before: Floats | None = None,
    seen: Sides | None = None,
    rerank: Rerank | None = None,
    compression: Compression | None = None,
    dims: Sequence[int] = DIMS,
) -> list[Way]:
    """The ways to use a model: plain, in its test views, re-ranked, both, with fewer dimensions and as codes.

    Fewer dimensions and codes are those of the views, where there are some, and are not re-ranked.

    Args:
        items: of the test.
        plain: each seen once, as it is.
        before: float32 `[n, dim]`, by the untrained model.
        seen: in the test views of the model.
        rerank: how the model re-ranks; nothing for none.
        compression: how it makes embeddings smaller; None for neither.
        dims: numbers of dimensions; those that are no less than all are passed over.

    Raises:
        UserError: as `evaluate_items`.
    """
    found = [] if before is None else [_measured("untrained", items, replace(plain, gallery=before))]
    found.append(_measured("trained", items, plain))
    # the first ranking of a process is slower, and takes as long as this one else
    found[0] = replace(found[0], ranking_ms=found[-1].ranking_ms)
    if seen is not None:
        found.append(_measured(VIEWS, items, seen))
    if rerank:
        found.append(_measured(RERANKED, items, plain, rerank))
        if seen is not None:
            found.append(_measured(VIEWS_RERANKED, items, seen, rerank))
    if compression is not None:
        found += _small(items, seen or plain, compression, dims)
    return found


def shown(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of metrics.json for people, by its columns."""
    query, ranking = row["query_ms"], row["ranking_ms"]
    return {
        "model": row["name"],
        "recall@1": f"{row['recall@1']:.3f}",
        "MAP@R": f"{row['map@r']:.3f}",
        "query": f"{row['query_cost']:.1f}x" + ("" if query is None else f", {query:.0f} ms"),
        "ranking": "–" if ranking is None else f"{ranking:.2f} ms",
        "item": f"{row['gallery_cost']:.1f}x",
        "bytes": f"{row['bytes']:,}",
    }


def _measured(name: str, items: Items, sides: Sides, rerank: Rerank | None = None) -> Way:
    protocol = replace(protocol_for(items), draws=0)
    start = time.process_time()  # what else the machine does is no cost
    result = evaluate_items(
        sides.gallery, items, protocol, queries=sides.queries, nmi=False, neighbours=0, rerank=rerank
    )
    each = 1000 * (time.process_time() - start) / len(result.per_query)
    return replace(_way(name, result.metrics, 4 * sides.gallery.shape[1], sides), ranking_ms=each)


def _small(items: Items, sides: Sides, compression: Compression, dims: Sequence[int]) -> list[Way]:
    """Fewer dimensions as the model makes them, and all of them in fewer bytes."""
    given: dict[str, Any] = {"queries": sides.queries, "reductions": [compression.reduction]}
    fewer = compressed(sides.gallery, items, compression, dims=dims, dtypes=("float32",), **given)[1:]
    codes = compressed(sides.gallery, items, compression, dims=(), dtypes=CODES, **given)
    named = [(f"{each.dim} dimensions", each) for each in fewer] + [(each.dtype, each) for each in codes]
    return [
        _way(name, {"recall@1": each.recall_at_1, "map@r": each.map_at_r}, each.bytes, sides) for name, each in named
    ]


def _way(name: str, metrics: dict[str, float], size: int, sides: Sides) -> Way:
    views = sides.views
    return Way(name, metrics, size, views.cost("query"), views.cost("gallery"), sides.query_ms)
