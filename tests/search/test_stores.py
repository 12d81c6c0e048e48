"""One suite for every store: what `stores/base.py` promises. All that asks for a server stands here."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from pullpush import search
from pullpush.errors import UserError
from pullpush.evaluation import Rerank, evaluate
from pullpush.search import layout, reranking
from pullpush.search.stores import Change, Store, Vectors, declared, names, open_store
from pullpush.search.stores.base import FILTERS, recall_in_words
from pullpush.server import serve
from tests.support.fake import FakeModel, picture

DIM = 8
_number = itertools.count()
HOSTILE = ["'; DROP TABLE items; --", '" or "" == "', "\\", "%s %(id)s {table}", "a\tb\nc", "\\N", "a\0b"]
"""Values of a column."""


STORES = [f"faiss:{kind}" for kind in ("flat", "hnsw", "ivfpq", "int8", "binary")]


@pytest.fixture(params=[*STORES, "milvus", "pgvector", "pgvector graph"])
def make_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Store]:
    """Gives the store of an owner; the same collection each time within a test."""
    url, _, graph = request.param.partition(" ")
    if declared(url).remote:
        url = f"{request.getfixturevalue(url)}/suite_{next(_number)}"
    if graph:  # also where comparing all would be quicker
        monkeypatch.setattr("pullpush.search.stores.pgvector.GRAPH_FROM", 1)
        monkeypatch.setenv("PGOPTIONS", "-c enable_seqscan=off")
    return lambda owner="me": open_store(url, owner)


def vectors(count: int, seed: int, dim: int = DIM) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def change(start: int, count: int, seed: int, removed: tuple[int, ...] = ()) -> Change:
    ids = np.arange(start, start + count, dtype=np.int64)
    columns = pd.DataFrame(
        {
            "label": [f'the "{i % 3}"' for i in ids],
            "category": ["even" if i % 2 == 0 else "odd" for i in ids],
            "domain": [HOSTILE[i - 10] if 10 <= i < 10 + len(HOSTILE) else "" for i in ids],
            "split": "tést",
        }
    )
    return Change(ids, vectors(count, seed), columns[list(FILTERS)], np.array(removed, np.int64))


def publish(store: Store, root: Path, version: int, what: Change, previous: Path | None = None) -> Path:
    folder = root / str(version)
    folder.mkdir()
    store.stage(folder, version, what, previous)
    store.settle(version, what)
    return folder


def check_reranked(view: Vectors, stored: Change) -> None:
    """Hits are re-ranked as `evaluate` does it, whatever the store holds; all items are candidates."""
    query = vectors(1, seed=9)
    everything = {"gallery": stored.vectors, "gallery_labels": np.zeros(len(stored.ids), int)}

    def search_in(vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        [scores], [ids] = view.search(vector[None], k)
        return scores[ids >= 0], ids[ids >= 0]

    for options in (Rerank(expand=3), Rerank(augment=4), Rerank(expand=2, augment=3, reciprocal=6)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reranking, "CANDIDATES", len(stored.ids))
            scores, ids = reranking.nearest(query[0], 40, options, search_in, view.get)
        found = evaluate(query, [0], **everything, neighbours=300, nmi=False, rerank=options).neighbours
        similarity = dict(zip(found.indices[0].tolist(), found.similarities[0], strict=True))
        in_order = found.similarities[0, :40]  # some differ in the last bits alone
        np.testing.assert_allclose([similarity[item] for item in ids.tolist()], in_order, atol=2e-5)
        np.testing.assert_allclose(scores, stored.vectors[ids] @ query[0], atol=1e-5)


def test_a_store_keeps_its_promises(make_store: Callable[[str], Store], tmp_path: Path) -> None:
    """One test a store, as a Milvus collection takes seconds to make."""
    store, first = make_store("me"), change(0, 300, seed=1)
    one = publish(store, tmp_path, 1, first)
    view = store.open(one, 1)
    assert len(view) == 300

    # an item finds itself first, as exact search does; scores are inner products, in order
    scores, ids = view.search(first.vectors[:20], 10)
    assert scores.dtype == np.float32
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids[:, 0], np.arange(20))
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 1e-6).all()
    truth = np.argsort(-first.vectors[:20] @ first.vectors.T, axis=1)[:, :10]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids, truth, strict=True)]) >= 0.95
    expected = np.take_along_axis(first.vectors[:20] @ first.vectors.T, ids, 1)
    np.testing.assert_allclose(scores, expected, atol=1e-5)

    # narrowed by columns, also with quotes and letters beyond ASCII
    ids = view.search(first.vectors[:5], 8, {"category": "odd", "label": 'the "1"', "split": "tést"})[1]
    assert (ids[ids >= 0] % 6 == 1).all()
    assert (ids >= 0).all()
    scores, ids = view.search(first.vectors[:5], 8, {"category": "none such"})
    assert (ids == -1).all()
    assert np.isneginf(scores).all()

    # what is hostile is a value like any other
    for value in HOSTILE:
        ids = view.search(first.vectors[:1], 5, {"domain": value})[1]
        assert ids[0, 0] == 10 + HOSTILE.index(value), value
        assert (ids[0, 1:] == -1).all(), value
    assert len(view) == 300

    # more asked for than there is; nothing asked for
    scores, ids = view.search(first.vectors[:1], 310, {"label": 'the "0"'})
    assert (ids[0] >= 0).sum() == 100
    assert (ids[0][:100] >= 0).all()
    assert np.isneginf(scores[0][100:]).all()
    assert view.search(np.zeros((0, DIM), np.float32), 3)[1].shape == (0, 3)

    # vectors by id, in the order asked for
    np.testing.assert_allclose(view.get(np.array([7, 3, 7])), first.vectors[[7, 3, 7]], atol=1e-6)
    with pytest.raises(KeyError):
        view.get(np.array([5, 12345]))

    check_reranked(view, first)

    # the next version: readers of the first see nothing of it before it is published
    second = change(300, 40, seed=2, removed=(0, 1, 2))
    two = tmp_path / "2"
    two.mkdir()
    store.stage(two, 2, second, one)
    assert (view.search(second.vectors[:5], 3)[1] < 300).all()
    assert len(view) == 300
    store.settle(2, second)
    later = make_store("me").open(two, 2)
    assert len(later) == 337
    np.testing.assert_array_equal(later.search(second.vectors, 1)[1][:, 0], second.ids)
    assert not np.isin(later.search(first.vectors[:3], 20)[1], [0, 1, 2]).any()
    with pytest.raises(KeyError):
        later.get(np.array([1]))
    np.testing.assert_allclose(
        later.get(np.array([339, 5])), np.stack([second.vectors[39], first.vectors[5]]), atol=1e-6
    )

    # a version that was staged and never published does not show in the one that is written instead
    lost, third = change(340, 10, seed=3, removed=(4,)), change(340, 5, seed=4)
    (tmp_path / "lost").mkdir()
    store.stage(tmp_path / "lost", 3, lost, two)
    three = publish(make_store("me"), tmp_path, 3, third, two)
    last = store.open(three, 3)
    assert len(last) == 342
    assert last.search(first.vectors[4:5], 1)[1][0, 0] == 4
    assert not (last.search(lost.vectors, 1)[0][:, 0] > 0.9999).any()
    store.settle(3, third)  # may be repeated
    assert len(last) == 342


def test_a_graph_in_postgresql_is_searched_until_its_recall_is_enough(
    pgvector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullpush.search.stores.pgvector.GRAPH_FROM", 2_000)
    base, unseen = np.split(clustered(2_200), [2_000])
    store = open_store(f"{pgvector}/graph")
    what = replace(change(0, 2_000, seed=5), vectors=base, texts=lambda: apart(base[:50], 1))
    facts = store.stage(tmp_path, 1, what, None)
    assert {name: part["queries"] for name, part in facts["measured"].items()} == {"items": 100, "texts": 50}
    assert facts["recall@10"] == min(part["recall@10"] for part in facts["measured"].values()) >= 0.95
    view = store.open(tmp_path, 1)
    assert view.effort == facts["effort"]
    monkeypatch.setattr(view, "_nearest", partial(view._nearest, off="enable_seqscan"))
    assert recall(view, base, unseen) > 0.9
    plan = "EXPLAIN SELECT id FROM {table} ORDER BY vector <#> %s::vector LIMIT 10"
    with view.table.connected() as connection, connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        assert "graph_graph" in str(connection.execute(view.table.sql(plan), [str(base[0].tolist())]).fetchall())

    # a connection that the server has ended is made again
    other = open_store(f"{pgvector}/graph").table
    other.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid NOT IN (%s, pg_backend_pid())", [0])
    assert len(view) == 2_000


def test_a_milvus_server_that_is_stuck_is_given_up(
    milvus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"{milvus}/stuck")
    publish(store, tmp_path, 1, change(0, 5, seed=1))
    monkeypatch.setattr("pullpush.search.stores.milvus.PATIENCE", 1.0)
    (server,) = [each for each in psutil.Process().children() if "standalone" in each.cmdline()]
    server.suspend()
    try:
        wait_until_stopped(server)
        with pytest.raises(UserError, match=r"/stuck failed at \w+, or did not answer within 1 seconds"):
            store.open(tmp_path / "1", 1)
    finally:
        server.resume()


def wait_until_stopped(process: psutil.Process) -> None:
    """A process is not stopped when the signal is sent, but when one of its threads is next given a core: on a busy
    machine the others answer until then."""
    end = time.monotonic() + 60
    while any(psutil.Process(each.id).status() != psutil.STATUS_STOPPED for each in process.threads()):
        assert time.monotonic() < end, "the server does not stop"
        time.sleep(0.01)


REMOTE = [name for name in names() if declared(name).remote]


@pytest.mark.parametrize("name", REMOTE)
def test_a_collection_of_another_index_is_kept(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = f"{request.getfixturevalue(name)}/Order"  # a word of SQL
    publish(open_store(url, "first"), tmp_path, 1, change(0, 5, 0))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="another index"):
        open_store(url, "second").stage(tmp_path / "other", 1, change(0, 5, 0), None)
    assert len(open_store(url, "first").open(tmp_path / "1", 1)) == 5


@pytest.mark.parametrize("name", REMOTE)
def test_the_same_commands_with_a_server(
    name: str,
    model: FakeModel,
    pictures: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, store = tmp_path / "index", f"{request.getfixturevalue(name)}/whole"
    assert search.build_index(model, pictures, out, store=store, projection="none").facts["kind"] == name
    assert search.build_index(model, pictures, tmp_path / "faiss", projection="none").count == 30
    engine, other = search.open(out, model, store=store), search.open(tmp_path / "faiss", model)
    asked = {"text": "green", "k": 7}
    assert [hit.path for hit in engine.query(**asked)] == [hit.path for hit in other.query(**asked)]
    (pictures / "green" / "0.png").unlink()
    picture("green", 77).save(pictures / "green" / "new.png")
    with pytest.raises(UserError, match=re.escape(store)):
        search.build_index(model, pictures, out, projection="none")
    monkeypatch.setenv("PULLPUSH_STORE", store)
    report = search.build_index(model, pictures, out, projection="none")
    assert (report.added, report.removed) == (1, 1)
    names = {Path(hit.path).name for hit in engine.query(text="green", where={"label": "green"}, k=10)}
    assert names == {"1.png", "2.png", "3.png", "4.png", "new.png"}


@pytest.mark.parametrize("name", REMOTE)
def test_a_strangers_index_names_no_server_that_is_connected_to(
    name: str, index: Path, model: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address, and with it where the token of the environment goes, comes from the user alone."""
    asked: list[str] = []

    def connect(url: str, owner: str) -> None:
        asked.append(url)
        raise UserError(f"no server answers at {url}")

    monkeypatch.setattr(f"pullpush.search.stores.{name}.{declared(name).__name__}", connect)
    monkeypatch.delenv("PULLPUSH_STORE", raising=False)
    source = shutil.copytree(layout.current(index)[1].source, tmp_path / "source")
    search.build_index(model, source, index, rebuild=True, projection="none")
    picture("red", 1).save(source / "red" / "new.png")
    first = int(search.open(index, model).version.table["id"].iat[0])
    record_store(index, f"{name}://stranger.example:19530/trap")
    works = {
        "open": lambda **store: search.open(index, model, **store),
        "serve": lambda **store: serve(index, model=model, **store),
        "add": lambda **store: search.add(index, [picture("red", 1)], model, **store),
        "remove": lambda **store: search.remove(index, [first], **store),
        "build": lambda **store: search.build_index(model, source, index, **store),
    }
    for what, work in works.items():
        with pytest.raises(UserError, match="PULLPUSH_STORE"):
            work()
        assert not asked, what
    for what, work in works.items():
        with pytest.raises(UserError, match=f"answers at {name}://mine:1/c"):
            work(store=f"{name}://mine:1/c")
        assert asked == [f"{name}://mine:1/c"], what
        asked.clear()
    monkeypatch.setenv("PULLPUSH_STORE", f"{name}://env:1/c")
    with pytest.raises(UserError, match=f"answers at {name}://env:1/c"):
        search.open(index, model)
    with pytest.raises(UserError, match="not faiss"):
        search.open(index, model, store="faiss")


def record_store(index: Path, url: str) -> None:
    """Makes the record of an index name another store, with checksums that are right."""
    folder, _ = layout.current(index)
    raw = json.dumps(json.loads((folder / layout.RECORD).read_text()) | {"store": url}).encode()
    (folder / layout.RECORD).write_bytes(raw)
    (index / layout.POINTER).write_text(f"{folder.name} {hashlib.sha256(raw).hexdigest()}\n")


@pytest.mark.parametrize(
    "url",
    [
        "redis://x",
        "base",
        "faiss:lsh",
        "milvus://host/collection",
        "milvus://u:p@host:1/c",
        "milvus://127.0.0.1:9/c",
        "pgvector://host/table",
        "pgvector://u:p@host:1/database/table",
        'pgvector://host/database/table"; DROP TABLE items; --',
        "pgvector://127.0.0.1:9/database/table",
    ],
)
def test_unusable_stores_are_refused_with_the_reason(url: str) -> None:
    with pytest.raises(UserError, match=r"store|FAISS|Milvus|pgvector"):
        open_store(url)


def apart(base: np.ndarray, seed: int) -> np.ndarray:
    """Texts to images: around the same items, and all shifted in one direction, as models of two towers have them."""
    gap = vectors(1, 99, base.shape[1])
    found = 0.5 * base + 0.9 * gap + 0.15 * np.random.default_rng(seed).standard_normal(base.shape)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def clustered(count: int) -> np.ndarray:
    """Unit vectors in groups of about 100, as classes are."""
    rng, weights = np.random.default_rng(0), 1 / np.sqrt(np.arange(1, 49))
    centres = rng.standard_normal((count // 100, 48)) * weights
    found = centres[rng.integers(len(centres), size=count)] + 0.5 * weights * rng.standard_normal((count, 48))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def recall(view: Vectors, base: np.ndarray, queries: np.ndarray) -> float:
    truth = np.argsort(-queries @ base.T, axis=1)[:, :10]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(view.search(queries, 10)[1], truth, strict=True)]))


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq", "int8", "binary"])
def test_the_stated_recall_holds_for_real_queries(kind: str, tmp_path: Path) -> None:
    """Held against exact search with items and texts that the store never saw."""
    everything = spread(1.0, 5)
    rows = np.random.default_rng(2).permutation(6000)
    base, unseen = everything[rows[:5000]], everything[rows[5000:5600]]
    base, unseen = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (base, unseen))
    what = replace(change(0, 5000, seed=5), vectors=base, texts=lambda: apart(base[:200], 1))
    facts = open_store(f"faiss:{kind}").stage(tmp_path, 1, what, None)
    view = open_store("faiss").open(tmp_path, 1)
    assert {name: part["queries"] for name, part in facts["measured"].items()} == {"held-out items": 200, "texts": 200}
    assert facts["recall@10"] == min(part["recall@10"] for part in facts["measured"].values()) >= 0.95
    for name, queries in (("held-out items", unseen), ("texts", apart(unseen, 2))):
        assert abs(recall(view, base, queries) - facts["measured"][name]["recall@10"]) < 0.04, name
    told = recall_in_words(facts)
    assert "held-out items 0.9" in told or "held-out items 1.0" in told
    assert "texts" in told


def test_texts_need_more_effort_than_items(tmp_path: Path) -> None:
    """By items alone the effort would be too small for texts: the defect that this is for."""
    base, unseen = np.split(clustered(12_300), [12_000])
    files, efforts = {}, {}
    for name, texts in (("items", None), ("both", lambda: apart(base[:200], 1))):
        (tmp_path / name).mkdir()
        what = replace(change(0, len(base), seed=5), vectors=base, texts=texts)
        files[name] = open_store("faiss:hnsw").stage(tmp_path / name, 1, what, None)
        efforts[name] = files[name]["effort"]
    assert "texts" not in files["items"]["measured"]
    assert efforts["both"] > efforts["items"]
    queries = apart(unseen, 2)
    found = {name: recall(open_store("faiss").open(tmp_path / name, 1), base, queries) for name in files}
    assert found["both"] > 0.92 > found["items"]


def test_a_graph_grows_and_is_built_anew_when_many_rows_are_dead_or_it_has_doubled(tmp_path: Path) -> None:
    store = open_store("faiss:hnsw")
    first = change(0, 200, 1)
    one = publish(store, tmp_path, 1, first)
    for name in ("few", "many", "doubled", "bulk"):
        (tmp_path / name).mkdir()
    few = store.stage(tmp_path / "few", 2, change(200, 10, 2, removed=(3,)), one)
    many = store.stage(tmp_path / "many", 2, change(200, 10, 2, removed=tuple(range(100))), one)
    assert (few["rows"], few["removed"]) == (210, 1)
    assert (many["rows"], many["removed"]) == (110, 0)
    view = open_store("faiss").open(tmp_path / "many", 1)
    np.testing.assert_array_equal(view.search(first.vectors[100:], 1)[1][:, 0], np.arange(100, 200))
    assert few["measured_rows"] == 200, "ten new items tell nothing about the recall"
    bulk = store.stage(tmp_path / "bulk", 2, change(200, 60, 2), one)
    assert bulk["measured"]["held-out items"]["queries"] == 60
    facts = json.loads((one / "store.json").read_text()) | {"measured_rows": 50}
    (one / "store.json").write_text(json.dumps(facts))
    assert store.stage(tmp_path / "doubled", 2, change(200, 10, 2), one)["measured_rows"] == 210


def test_exact_search_in_blocks_equals_one_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    from pullpush.search import exact

    monkeypatch.setattr(exact, "_CELLS", 7000)
    base, queries = vectors(5000, 0), vectors(9, 1)
    allowed = np.random.default_rng(2).random(5000)
    for share in (None, 0.9, 0.05):
        mask = None if share is None else allowed < share
        product = queries @ base.T if mask is None else np.where(mask, queries @ base.T, -np.inf)
        scores, rows = exact.search(queries, base, 12, mask)
        np.testing.assert_array_equal(rows, np.argsort(-product, axis=1, kind="stable")[:, :12])
        np.testing.assert_allclose(scores, -np.sort(-product, axis=1)[:, :12], rtol=1e-6)


def spread(length: float, seed: int, near: float = 1.0) -> np.ndarray:
    """Vectors around one direction, of different lengths, in the order of their similarity to it."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((6000, 24)) * near + np.eye(24)[0]
    found *= length * rng.uniform(0.5, 1, (6000, 1)) / np.linalg.norm(found, axis=1, keepdims=True)
    return np.ascontiguousarray(found[np.argsort(found[:, 0])], np.float32)


@pytest.mark.parametrize("length", [1.0, 1e-4, 300.0])
@pytest.mark.parametrize("near", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("share", [None, 0.6])
def test_a_first_pass_in_8_bits_loses_none_of_the_nearest(length: float, near: float, share: float | None) -> None:
    from pullpush.search import exact

    base = spread(length, 3, near)
    quantized = exact.Quantized.of(base)
    allowed = None if share is None else np.random.default_rng(4).random(len(base)) < share
    for seed in range(20):
        query = vectors(1, seed, 24)
        truth = query.astype(np.float64) @ base.T.astype(np.float64)
        truth = truth if allowed is None else np.where(allowed, truth, -np.inf)
        scores, rows = exact.search(query, base, 10, allowed, quantized)
        np.testing.assert_allclose(scores[0], -np.sort(-truth[0])[:10], atol=length * 1e-5, rtol=0)
        np.testing.assert_allclose(np.take_along_axis(truth, rows, 1)[0], scores[0], atol=length * 1e-5, rtol=0)


def test_the_first_pass_leaves_few_rows_and_gives_up_where_all_are_alike() -> None:
    from pullpush.search import exact

    apart = exact.Quantized.of(vectors(6000, 3, 24)).candidates(vectors(1, 9, 24)[0], 10)
    assert apart is not None
    assert 10 <= len(apart) < 100
    alike = np.tile(vectors(1, 3, 24), (6000, 1))
    assert exact.Quantized.of(alike).candidates(alike[0], 10) is None
    scores, rows = exact.search(alike[:1], alike, 10, None, exact.Quantized.of(alike))
    np.testing.assert_allclose(scores[0], 1, rtol=1e-6)
    assert len(set(rows[0])) == 10
    assert exact.Quantized.of(alike[:0]).candidates(alike[0], 10) is None


def test_an_index_without_quantized_vectors_is_still_searched(tmp_path: Path) -> None:
    """Those of earlier versions have none."""
    store = open_store("faiss:flat")
    store.stage(tmp_path, 1, change(0, 5000, seed=1), None)
    new = store.open(tmp_path, 1)
    (tmp_path / "quantized.pt").unlink()
    old = store.open(tmp_path, 1)
    for query in new.vectors[:5] + vectors(5, 8):
        for found, same in zip(new.search(query[None], 7), old.search(query[None], 7), strict=True):
            np.testing.assert_allclose(found, same, rtol=1e-6)


def test_a_graph_is_searched_after_faiss_was_patched_for_tensors(tmp_path: Path) -> None:
    """PyTorch Metric Learning imports faiss.contrib.torch_utils, whose `Index.search` takes no params."""
    code = (
        "import faiss.contrib.torch_utils, numpy as np; from pullpush.search.stores.faiss import build, tune;"
        "x = np.random.default_rng(0).standard_normal((500, 8), dtype=np.float32);"
        "print(tune(build('hnsw', x), x, np.ones(500, bool), {'items': x[:50]})['recall@10'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) > 0.9


def test_exact_search_reads_aligned_vectors_of_the_mapped_file(tmp_path: Path) -> None:
    """A product of unaligned numbers takes a hundred times as long."""
    store = open_store("faiss:flat")
    store.stage(tmp_path, 1, change(0, 50, seed=1), None)
    found = store.open(tmp_path, 1).vectors
    assert found.flags.aligned
    assert found.flags.c_contiguous
    assert not found.flags.owndata
