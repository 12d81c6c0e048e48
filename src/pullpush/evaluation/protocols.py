"""The protocols of the published benchmarks: which items are queries, which are the gallery, which K are reported."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pullpush.data.items import Items
from pullpush.data.splits import check_disjoint
from pullpush.errors import UserError
from pullpush.evaluation.evaluate import KS, Evaluation, evaluate
from pullpush.evaluation.knn import Floats, Ints, Similarity, matrix
from pullpush.evaluation.ranks import NEAREST

__all__ = ["PROTOCOLS", "Protocol", "evaluate_items", "protocol_for"]


@dataclass(frozen=True)
class Protocol:
    """How a set of test items is scored.

    Attributes:
        name: stands in every `Evaluation.protocol`.
        ks: recall@k for these.
        roles: queries against the gallery, by the items' role; otherwise each item against all others.
        draws: further metrics from this many draws of one gallery image an id (VehicleID).
        sizes: numbers of test classes in the published figures; () where there is one size only.
        data: pattern of the names of its data set, letters and digits only; empty where it is of no benchmark.
    """

    name: str
    ks: tuple[int, ...] = KS
    roles: bool = False
    draws: int = 0
    sizes: tuple[int, ...] = ()
    data: str = ""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("leave_one_out"),
        Protocol("query_gallery", roles=True),
        Protocol("sop", (1, 10, 100, 1000), data="sop|stanfordonlineproducts"),
        Protocol("cub", (1, 2, 4, 8), data="cub|cub200|cub2002011"),
        Protocol("cars", (1, 2, 4, 8), data="cars|cars196"),
        Protocol("inshop", (1, 10, 20, 30), roles=True, data="inshop"),
        Protocol(
            "vehicleid",
            (1, 5),
            draws=10,
            sizes=(800, 1600, 2400),
            data="vehicleid(small|medium|large|800|1600|2400)?",
        ),
    )
}
"""By name: which items are queries, and which are their gallery, as the benchmarks have it."""


def protocol_for(items: Items) -> Protocol:
    """The protocol of a benchmark by the name of its items; else by their roles, or leave one out."""
    name = re.sub(r"[^a-z0-9]", "", items.name.lower())
    otherwise = PROTOCOLS["leave_one_out" if (items.table["role"] == "both").all() else "query_gallery"]
    return next((each for each in PROTOCOLS.values() if each.data and re.fullmatch(each.data, name)), otherwise)


def evaluate_items(
    embeddings: Any,
    items: Items,
    protocol: Protocol | str | None = None,
    *,
    queries: Any = None,
    nmi: bool = True,
    neighbours: int = 10,
    similarity: Similarity = "cosine",
    rerank: Any = None,
    seed: int = 0,
) -> Evaluation:
    """Score the embeddings of test items by a protocol.

    VehicleID is scored both ways. `all_against_all/recall@k` is each image against all others; `recall@k` without a
    prefix is the same figure. `one_gallery_image/recall@k` is the mean over ten seeded draws of one image an id as the
    gallery, with all others as queries; `one_gallery_image/recall@k/deviation` is the standard deviation of one draw.

    Args:
        embeddings: `[n, dim]`, rows as in `items`.
        items: usually `items.split("test")`.
        protocol: one of `PROTOCOLS` or its name; default `protocol_for(items)`.
        queries: `[n, dim]`, the embeddings of the same items as queries, where these are others (test views).
        nmi, neighbours, similarity, rerank, seed: as in `evaluate`.

    Returns:
        An `Evaluation` whose `per_query` index and `neighbours.indices` are row numbers of `items`, also where queries
        and gallery are parts of them.

    Raises:
        UserError: as `evaluate`; a class in two splits; an unknown protocol; no queries or no gallery.
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise UserError(f"protocol {protocol!r} is unknown; choose one of {', '.join(PROTOCOLS)}.")
        protocol = PROTOCOLS[protocol]
    protocol = protocol or protocol_for(items)
    check_disjoint(items)
    vectors = matrix(embeddings, "embeddings")
    if len(vectors) != len(items):
        raise UserError(f"{len(vectors)} embeddings for {len(items)} items of {items.name}; give a row for each item.")
    asking = vectors if queries is None else matrix(queries, "queries")
    if asking.shape != vectors.shape:
        raise UserError(f"queries are {list(asking.shape)} and embeddings {list(vectors.shape)}; give as many of both.")
    every = np.arange(len(items))
    query, gallery = _by_role(items) if protocol.roles else (every, every)
    options: dict[str, Any] = {"similarity": similarity, "rerank": rerank, "seed": seed}
    result = _between(asking, vectors, items, query, gallery, protocol.ks, nmi=nmi, neighbours=neighbours, **options)
    metrics, notes = dict(result.metrics), []
    if protocol.draws:
        metrics |= {f"all_against_all/recall@{k}": metrics[f"recall@{k}"] for k in protocol.ks}
        metrics |= _one_gallery_image(asking, vectors, items, protocol, options)
        notes.append(
            "recall@k without a prefix is all against all; one_gallery_image is the mean of "
            f"{protocol.draws} draws of one gallery image an id."
        )
    classes = items.table["label"].nunique()
    if protocol.sizes and classes not in protocol.sizes:
        sizes = ", ".join(map(str, protocol.sizes))
        notes.append(f"{classes} test classes; published figures of {protocol.name} are for {sizes}.")
    return replace(result, metrics=metrics, protocol=protocol.name, notes=(*result.notes, *notes))


def _between(
    asking: Floats, vectors: Floats, items: Items, query: Ints, gallery: Ints, ks: tuple[int, ...], **options: Any
) -> Evaluation:
    """`evaluate` rows `query` against rows `gallery` of the items, with row numbers of the items in the result."""
    labels, ids, categories = (items.table[name].to_numpy() for name in ("label", "id", "category"))
    against = {}
    if asking is not vectors or not np.array_equal(query, gallery):
        against = {"gallery": vectors[gallery], "gallery_labels": labels[gallery], "gallery_ids": ids[gallery]}
    result = evaluate(
        asking[query],
        labels[query],
        ids[query],
        categories=categories[query] if (categories[query] != "").any() else None,
        ks=ks,
        **against,
        **options,
    )
    indices = _rows_of(gallery, result.neighbours.indices)
    nearest = {name: _rows_of(gallery, result.per_query[name].to_numpy()) for name in NEAREST}
    per_query = result.per_query.assign(**nearest).set_index(query)
    return replace(result, per_query=per_query, neighbours=result.neighbours._replace(indices=indices))


def _rows_of(gallery: Ints, rows: Ints) -> Ints:
    """Row numbers of the items, from those of the gallery; -1 stays."""
    return np.where(rows >= 0, gallery[rows], -1)


def _by_role(items: Items) -> tuple[Ints, Ints]:
    role = items.table["role"].to_numpy()
    query, gallery = np.flatnonzero(role != "gallery"), np.flatnonzero(role != "query")
    for rows, name in ((query, "query"), (gallery, "gallery")):
        if not len(rows):
            raise UserError(f"{items.name}: no item has the role {name} or both; check the column role of the items.")
    return query, gallery


def _one_gallery_image(
    asking: Floats, vectors: Floats, items: Items, protocol: Protocol, options: dict[str, Any]
) -> dict[str, float]:
    """Mean and deviation of recall@k over seeded draws of one gallery image a class."""
    labels = items.table["label"].to_numpy()
    generator = np.random.default_rng(options["seed"])
    draws = []
    for _ in range(protocol.draws):
        shuffled = generator.permutation(len(labels))
        _, first = np.unique(labels[shuffled], return_index=True)
        gallery = np.sort(shuffled[first])
        query = np.setdiff1d(np.arange(len(labels)), gallery)
        if not len(query):
            raise UserError(f"{items.name}: every class has one image, so no query is left; give classes two or more.")
        drawn = _between(asking, vectors, items, query, gallery, protocol.ks, nmi=False, neighbours=0, **options)
        draws.append([drawn.metrics[f"recall@{k}"] for k in protocol.ks])
    result = {}
    for k, values in zip(protocol.ks, np.array(draws).T, strict=True):
        result[f"one_gallery_image/recall@{k}"] = float(values.mean())
        result[f"one_gallery_image/recall@{k}/deviation"] = float(values.std(ddof=1))
    return result
