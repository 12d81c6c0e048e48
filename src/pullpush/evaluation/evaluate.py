"""`evaluate`: retrieval metrics of embeddings, exact, in blocks."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pullpush.data.labels import numbered
from pullpush.errors import UserError
from pullpush.evaluation.knn import Floats, Ints, Neighbours, Similarity, matrix
from pullpush.evaluation.metrics.nmi import nmi as nmi_of
from pullpush.evaluation.ranks import Side, measure, unique_rows
from pullpush.evaluation.rerank import rerank as reranked_by
from pullpush.evaluation.rerank import rerank_of
from pullpush.notebook import lines, table

__all__ = ["FACTS", "KS", "Evaluation", "column_of", "evaluate", "sides", "summarised"]

KS = (1, 2, 4, 8, 10, 100)
WORST = 5
FACTS = ("label", "id", "category", "positives", "rank", "nearest_positive", "nearest_negative")
"""Columns of `per_query` that are no metric."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` computed.

    Attributes:
        metrics: means over the counted queries, fractions: `recall@1`, ..., `r_precision`, `map@r`, `nmi`.
        per_query: a row a query, in the order given: `label`, `id` (where ids were given), `category` (where categories
            were), `positives` (R), `rank` of the nearest positive, `nearest_positive` and `nearest_negative` (row
            numbers of the gallery, -1 for none), each metric; NaN where the query has no positive.
        per_class: a row a class (index `label`): `queries` counted, and the mean of each metric over them.
        per_category: the same for each category; None without categories.
        left_out: queries without a positive, which count in no mean.
        repeated: query rows whose id was seen before (the same item listed twice), which count once.
        neighbours: the nearest items of the gallery for each query: `indices` (row numbers of the gallery) and
            `similarities`, both `[queries, neighbours]`.
        references: items of the gallery, each once.
        nmi_items: how many items were clustered for `nmi`; fewer than all where all would take too long.
        protocol: the protocol's name.
        notes: sentences that belong next to the numbers.
    """

    metrics: dict[str, float]
    per_query: pd.DataFrame
    per_class: pd.DataFrame
    per_category: pd.DataFrame | None
    left_out: int
    repeated: int
    neighbours: Neighbours
    references: int
    nmi_items: int = 0
    protocol: str = "leave_one_out"
    notes: tuple[str, ...] = ()

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which queries count: those that have a positive, each item once. bool `[queries]`."""
        return _counted(self.per_query)

    def __repr__(self) -> str:
        first = next((name for name in self.metrics if name.startswith("recall@")), "")
        shown = [f"{n}={self.metrics[n]:.4f}" for n in (first, "r_precision", "map@r", "nmi") if n in self.metrics]
        left = f", {self.left_out} left out" if self.left_out else ""
        of = f"{len(self.per_query) - self.repeated} queries of {self.per_query['label'].nunique()} classes{left}"
        return f"Evaluation({', '.join(shown)}; {of}, {self.protocol})"

    def _repr_html_(self) -> str:
        metrics = table([{name: float(value) for name, value in self.metrics.items()}])
        shown = [name for name in ("recall@1", "map@r") if name in self.per_class]
        worst = self.per_class.sort_values(shown, kind="stable").head(WORST) if shown else self.per_class.head(0)
        rows = [{"class": label, "queries": int(row["queries"]), **row[shown]} for label, row in worst.iterrows()]
        return lines([repr(self), *self.notes]) + metrics + table(rows, "the classes that find least")


def evaluate(
    embeddings: Any,
    labels: Any,
    ids: Any = None,
    *,
    gallery: Any = None,
    gallery_labels: Any = None,
    gallery_ids: Any = None,
    categories: Any = None,
    ks: tuple[int, ...] = KS,
    nmi: bool = True,
    neighbours: int = 10,
    similarity: Similarity = "cosine",
    rerank: Any = None,
    seed: int = 0,
) -> Evaluation:
    """Retrieval metrics: each query among the others (leave one out), or queries against a gallery.

    Positives of a query are the references of its class. An item never retrieves itself: identity is the id and nothing
    else. Without ids each row is its own item, and without a gallery the rows are the gallery. Ties never help: metrics
    are expectations over the order of tied references, so a collapsed model scores as random order does (see
    `pullpush.evaluation.metrics`, where the formulas are). Computed on the CPU: similarities in float32, metrics in
    float64.

    Args:
        embeddings: queries `[n, dim]`, numpy or torch, any float type.
        labels: int `[n]`, or names, which the frames then show.
        ids: int or names `[n]`; a repeated id is the same item listed twice and counts once.
        gallery: `[m, dim]`; then `gallery_labels` `[m]` is needed, and `gallery_ids` if items can be on both sides.
        categories: `[n]`, any values (strings, say): means for each.
        ks: recall@k for these.
        nmi: cluster queries and gallery by k-means; of large sets, part of the classes (see `metrics.nmi`).
        neighbours: how many nearest references of each query to return; 0 for none.
        similarity: `cosine`, `dot` or `euclidean`, or a function as of `knn.search`.
        rerank: a `Rerank`, or its options as a mapping or in words (`"expand=5,augment=5"`): the ranking, and the
            similarities of the neighbours, are then the re-ranked ones. It needs cosines. `nmi` is not changed by it.
        seed: of k-means, and of the draw among neighbours that are tied.

    Raises:
        UserError: for NaN embeddings, lengths that differ, an id with two labels, no query with a positive; options of
            re-ranking that there are not, or with another similarity than the cosine.
    """
    if any(k < 1 for k in ks) or neighbours < 0:
        raise UserError(
            f"ks {tuple(ks)}, neighbours {neighbours}: give each k as at least 1, neighbours as at least 0."
        )
    queries, references = sides(embeddings, labels, ids, gallery, gallery_labels, gallery_ids)
    options = rerank_of(rerank)
    if options:
        if similarity != "cosine":
            raise UserError(f"re-ranking is by cosines, not by {similarity!r}: leave out similarity, or rerank")
        similarity = partial(reranked_by, options=options, seed=seed)
    values, nearest, references_count = measure(queries, references, tuple(ks), neighbours, similarity)
    if ids is not None:
        values = {"id": _shown(queries.ids, queries.id_names), **values}
    per_query = pd.DataFrame({"label": _shown(queries.labels, queries.label_names), **values})
    if categories is not None:
        per_query.insert(1, "category", column_of(categories, len(per_query), "categories"))
    protocol = "leave_one_out" if gallery is None else "query_gallery"
    result = summarised(per_query, nearest, references_count, protocol)
    if options:
        result = replace(result, notes=(f"re-ranked: {options}",))
    if not nmi:
        return result
    value, clustered = nmi_of(*_items(queries, references), seed)
    return replace(result, metrics={**result.metrics, "nmi": value}, nmi_items=clustered)


def summarised(per_query: pd.DataFrame, neighbours: Neighbours, references: int, protocol: str) -> Evaluation:
    """The evaluation that follows from what was measured of each query: its means, in all, by class and by category.

    Raises:
        UserError: no query has a positive.
    """
    counted = per_query[_counted(per_query)]
    repeated = int(per_query["id"].duplicated().sum()) if "id" in per_query else 0
    once = len(per_query) - repeated
    if counted.empty:
        raise UserError(
            f"none of the {once} queries has a positive: every class has one item in what is searched. "
            "Evaluate on classes with at least two items, or check the labels of the gallery."
        )
    names = [name for name in per_query if name not in FACTS]
    return Evaluation(
        metrics={name: float(counted[name].mean()) for name in names},
        per_query=per_query,
        per_class=_means(counted, "label", names),
        per_category=_means(counted, "category", names) if "category" in per_query else None,
        left_out=once - len(counted),
        repeated=repeated,
        neighbours=neighbours,
        references=references,
        protocol=protocol,
    )


def _counted(per_query: pd.DataFrame) -> NDArray[np.bool_]:
    counted = per_query["positives"] > 0
    return np.asarray(counted & ~per_query["id"].duplicated() if "id" in per_query else counted, np.bool_)


def sides(
    embeddings: Any, labels: Any, ids: Any, gallery: Any, gallery_labels: Any, gallery_ids: Any
) -> tuple[Side, Side]:
    """Queries and references, checked; one and the same without a gallery."""
    (labels, gallery_labels), label_names = numbered("labels", labels, gallery_labels)
    (ids, gallery_ids), id_names = numbered("ids", ids, gallery_ids)
    queries = replace(_side("embeddings", "", embeddings, labels, ids), label_names=label_names, id_names=id_names)
    if gallery is None:
        if gallery_labels is not None or gallery_ids is not None:
            raise UserError("gallery_labels or gallery_ids without a gallery; give gallery=[m, dim] too.")
        queries = queries if queries.ids is not None else replace(queries, ids=np.arange(len(queries.labels)))
        return queries, queries
    if (ids is None) != (gallery_ids is None):
        raise UserError("ids are given for one side only; give both ids and gallery_ids, or neither.")
    references = _side("gallery", "gallery_", gallery, gallery_labels, gallery_ids)
    return queries, replace(references, label_names=label_names, id_names=id_names)


def _side(name: str, prefix: str, embeddings: Any, labels: Any, ids: Any) -> Side:
    """Checked rows: finite float32 `[n, dim]`, int64 labels and ids of the same length."""
    array = matrix(embeddings, name)
    if labels is None:
        raise UserError(f"{prefix}labels are missing; give one label for each of the {len(array)} rows of {name}.")
    ids = None if ids is None else _integers(ids, len(array), f"{prefix}ids")
    return Side(array, _integers(labels, len(array), f"{prefix}labels"), ids)


def _integers(values: Any, length: int, name: str) -> Ints:
    column = column_of(values, length, name)
    if column.dtype.kind not in "iub":
        raise UserError(f"{name} are {column.dtype}, not integers or names; give int64 or strings.")
    return column.astype(np.int64)


def _shown(numbers: Any, names: NDArray[Any] | None) -> Any:
    return numbers if names is None else names[numbers]


def column_of(values: Any, length: int, name: str) -> NDArray[Any]:
    """Values as an array `[length]`; `UserError` names what has another shape."""
    column = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if column.shape != (length,):
        raise UserError(f"{name} have the shape {list(column.shape)}, but there are {length} rows; give one for each.")
    return column


def _means(counted: pd.DataFrame, by: str, names: list[str]) -> pd.DataFrame:
    groups = counted.groupby(by, sort=True)
    return pd.concat([groups.size().rename("queries"), groups[names].mean()], axis=1)


def _items(queries: Side, references: Side) -> tuple[Floats, Ints]:
    """Embeddings and labels of all items, each once."""
    rows = unique_rows(queries)
    embeddings, labels = queries.embeddings[rows], queries.labels[rows]
    if references is queries:
        return embeddings, labels
    more = unique_rows(references)
    if queries.ids is not None and references.ids is not None:
        more = more[~np.isin(references.ids[more], queries.ids)]
    return (
        np.concatenate([embeddings, references.embeddings[more]]),
        np.concatenate([labels, references.labels[more]]),
    )
