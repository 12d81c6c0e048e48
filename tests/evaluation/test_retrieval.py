"""The table of all ways to use a model: each row against what it says, by the functions that do it alone."""

import numpy as np
import pytest

from pullpush.encoders import Compression, Rerank, View, Views
from pullpush.encoders.compression import decode
from pullpush.evaluation import compressed, evaluate_items
from pullpush.evaluation.retrieval import Sides, shown, ways
from tests.evaluation.test_protocols import clustered, items_of

VIEWS = Views((View(), View(1.5)), (View(), View(flip=True)))
RERANK = Rerank(expand=2, augment=1)


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def made():
    x, labels = clustered()
    noise = np.random.default_rng(1).normal(size=(4, *x.shape))
    before, plain, gallery, queries = (unit(x + each) for each in noise)
    return items_of(labels), before, plain, gallery, queries


def test_each_row_is_what_evaluate_finds(made):
    items, before, plain, gallery, queries = made
    small = Compression.fit(plain, "pca")
    seen = Sides(gallery, queries, VIEWS, query_ms=3.0)
    rows = ways(items, Sides(plain), before=before, seen=seen, rerank=RERANK, compression=small, dims=(16, 5))
    found = {row.name: row for row in rows}
    assert list(found) == [
        "untrained", "trained", "with views", "re-ranked", "views, re-ranked",
        "5 dimensions", "int8", "binary", "binary, rescored",
    ]  # fmt: skip

    def metrics(x, asking=None, rerank=None):
        return evaluate_items(x, items, queries=asking, rerank=rerank, nmi=False).metrics

    assert found["untrained"].metrics == metrics(before)
    assert found["trained"].metrics == metrics(plain)
    assert found["with views"].metrics == metrics(gallery, queries)
    assert found["re-ranked"].metrics == metrics(plain, rerank=RERANK)
    assert found["views, re-ranked"].metrics == metrics(gallery, queries, RERANK)
    for name, dim, dtype in (("5 dimensions", 5, "float32"), ("int8", 16, "int8"), ("binary", 16, "binary")):
        sides = [decode(small(side, dim, dtype), dim) for side in (gallery, queries)]
        expected = metrics(*sides)
        assert found[name].metrics == {each: expected[each] for each in ("recall@1", "map@r")}
    assert [row.bytes for row in rows] == [64] * 5 + [20, 16, 2, 18]
    assert [row.query_cost for row in rows] == [1, 1, 3.25, 1, 3.25] + [3.25] * 4
    assert [row.gallery_cost for row in rows] == [1, 1, 2, 1, 2] + [2] * 4
    assert [row.query_ms for row in rows] == [None, None, 3.0, None, 3.0] + [3.0] * 4
    assert [row.ranking_ms is None for row in rows] == [False] * 5 + [True] * 4


def test_what_there_is_not_has_no_row(made):
    items, _, plain, *_ = made
    [row] = ways(items, Sides(plain))
    assert (row.name, row.query_cost, row.bytes) == ("trained", 1.0, 64)
    values = row.values()
    assert values["recall@1"] == row.metrics["recall@1"]
    cells = shown(values)
    assert cells["query"] == "1.0x"
    assert cells["bytes"] == "64"
    prefix = Compression.fit(plain, "prefix")
    names = [row.name for row in ways(items, Sides(plain), rerank=Rerank(), compression=prefix, dims=(5,))]
    assert names == ["trained", "5 dimensions", "int8", "binary", "binary, rescored"]
    expected = evaluate_items(prefix.reduce(plain, 5), items, nmi=False).metrics["map@r"]
    assert ways(items, Sides(plain), compression=prefix, dims=(5,))[1].metrics["map@r"] == expected


def test_small_embeddings_of_queries_that_are_embedded_otherwise(made):
    items, _, _, gallery, queries = made
    small = Compression.fit(gallery)
    rows = compressed(gallery, items, small, queries=queries, dims=(5,), reductions=("pca",), dtypes=("float32",))
    assert [(row.reduction, row.dim) for row in rows] == [("none", 16), ("pca", 5)]
    expected = evaluate_items(small.reduce(gallery, 5), items, queries=small.reduce(queries, 5), nmi=False).metrics
    assert rows[1].map_at_r == expected["map@r"]
    rescored = compressed(gallery, items, small, queries=queries, dims=(), dtypes=("binary",), candidates=1000)[-1]
    int8 = decode(small(gallery, None, "int8"), 16)
    fine = evaluate_items(int8, items, queries=queries, nmi=False).metrics["map@r"]
    assert rescored.map_at_r == pytest.approx(fine, abs=1e-3)
