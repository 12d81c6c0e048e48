import numpy as np
import pandas as pd
import pytest

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation import PROTOCOLS, evaluate, evaluate_items, protocol_for


def items_of(labels, name="things", **columns):
    labels = np.asarray(labels)
    table = pd.DataFrame({"path": "x.png", "label": labels, "id": np.arange(len(labels)) * 3 + 5, **columns})
    return Items(table, [str(c) for c in range(labels.max() + 1)], name)


def clustered(classes=20, each=6, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(classes), each))
    return generator.normal(size=(classes, 16))[labels] + 0.8 * generator.normal(size=(len(labels), 16)), labels


@pytest.mark.parametrize(
    ("name", "protocol", "ks"),
    [
        ("sop", "sop", (1, 10, 100, 1000)),
        ("cub", "cub", (1, 2, 4, 8)),
        ("CUB-200-2011", "cub", (1, 2, 4, 8)),
        ("cars", "cars", (1, 2, 4, 8)),
        ("in-shop", "inshop", (1, 10, 20, 30)),
        ("vehicleid", "vehicleid", (1, 5)),
        ("vehicleid-800", "vehicleid", (1, 5)),
        ("emoji", "leave_one_out", (1, 2, 4, 8, 10, 100)),
        ("my cars", "leave_one_out", (1, 2, 4, 8, 10, 100)),
    ],
)
def test_each_benchmark_has_its_protocol(name, protocol, ks):
    found = protocol_for(items_of([0, 0], name))
    assert (found.name, found.ks) == (protocol, ks)


def test_roles_make_query_against_gallery():
    x, labels = clustered()
    role = np.array(["query", "gallery", "both"])[np.arange(len(labels)) % 3]
    items = items_of(labels, role=role)
    assert protocol_for(items).name == "query_gallery"
    found = evaluate_items(x, items)
    ids, query, gallery = items.ids, role != "gallery", role != "query"
    expected = evaluate(
        x[query],
        labels[query],
        ids[query],
        gallery=x[gallery],
        gallery_labels=labels[gallery],
        gallery_ids=ids[gallery],
    )
    assert found.metrics == expected.metrics
    assert found.protocol == "query_gallery"
    # rows are those of the items
    np.testing.assert_array_equal(found.per_query.index, np.flatnonzero(query))
    assert gallery[found.neighbours.indices].all()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = (unit[query] * unit[found.neighbours.indices[:, 0]]).sum(axis=1)
    np.testing.assert_allclose(similarity, found.neighbours.similarities[:, 0], atol=1e-5)


def test_inshop_needs_both_roles():
    with pytest.raises(UserError, match="role gallery"):
        evaluate_items(np.eye(4), items_of([0, 0, 1, 1], "inshop", role="query"))


def test_vehicleid_both_ways_named():
    x, labels = clustered(30, 5)
    items = items_of(labels, "vehicleid")
    found = evaluate_items(x, items, nmi=False)
    plain = evaluate(x, labels, ks=(1, 5), nmi=False).metrics
    for k in (1, 5):
        assert found.metrics[f"all_against_all/recall@{k}"] == found.metrics[f"recall@{k}"] == plain[f"recall@{k}"]
        assert 0 < found.metrics[f"one_gallery_image/recall@{k}/deviation"] < 0.1
    assert any("30 test classes" in note and "800, 1600, 2400" in note for note in found.notes)
    assert evaluate_items(x, items, nmi=False).metrics == found.metrics
    other = evaluate_items(x, items, nmi=False, seed=1).metrics
    assert other["one_gallery_image/recall@1"] != found.metrics["one_gallery_image/recall@1"]
    # many draws of the same procedure, in loops
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity, generator, draws = unit @ unit.T, np.random.default_rng(9), []
    for _ in range(200):
        gallery = np.array([generator.choice(np.flatnonzero(labels == c)) for c in range(30)])
        query = np.setdiff1d(np.arange(len(labels)), gallery)
        draws.append((labels[gallery[similarity[np.ix_(query, gallery)].argmax(axis=1)]] == labels[query]).mean())
    spread = np.std(draws)
    assert abs(found.metrics["one_gallery_image/recall@1"] - np.mean(draws)) < 4 * spread / np.sqrt(10)
    assert found.metrics["one_gallery_image/recall@1/deviation"] == pytest.approx(spread, rel=0.7)


@pytest.mark.parametrize("name", ["sop", "cub", "inshop", "vehicleid"])
def test_collapsed_and_perfect_by_every_protocol(name):
    labels = np.repeat(np.arange(12), 4)
    items = items_of(labels, name, role=np.tile(["query", "gallery"], 24) if name == "inshop" else "both")
    protocol = PROTOCOLS[name]
    perfect = evaluate_items(np.eye(12)[labels], items).metrics
    assert all(value == (0.0 if key.endswith("deviation") else 1.0) for key, value in perfect.items())
    chance = {"inshop": 1 / 12}.get(name, 3 / 47)
    collapsed = evaluate_items(np.ones((48, 3)), items, nmi=False).metrics
    assert collapsed["recall@1"] == pytest.approx(chance)
    if protocol.draws:
        assert collapsed["one_gallery_image/recall@1"] == pytest.approx(1 / 12)


def test_categories_come_from_the_items():
    x, labels = clustered(4, 6)
    found = evaluate_items(x, items_of(labels, category=np.array(["a", "b"])[labels % 2]), nmi=False)
    assert list(found.per_category.index) == ["a", "b"]
    assert evaluate_items(x, items_of(labels), nmi=False).per_category is None


def test_bad_input_is_named():
    items = items_of([0, 0, 1, 1], split=["train", "test", "test", "test"])
    with pytest.raises(UserError, match="two splits"):
        evaluate_items(np.eye(4), items)
    with pytest.raises(UserError, match="3 embeddings for 4 items"):
        evaluate_items(np.eye(3), items_of([0, 0, 1, 1]))
    with pytest.raises(UserError, match="'sopp' is unknown"):
        evaluate_items(np.eye(4), items_of([0, 0, 1, 1]), "sopp")
