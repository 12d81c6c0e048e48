"""Re-ranking against float64 loops written from the papers, its laws, and what it must not do."""

import math

import numpy as np
import pandas as pd
import pytest

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation import Rerank, choose_rerank, evaluate, evaluate_items, knn
from pullpush.evaluation.chosen import METHODS
from pullpush.evaluation.rerank import rerank, rerank_of

EVERY = Rerank(expand=3, augment=2, reciprocal=6)


def clustered(n=90, classes=15, dim=8, noise=0.7, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    x = generator.normal(size=(classes, dim))[labels] + noise * generator.normal(size=(n, dim))
    return x.astype(np.float32), labels


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def nearest(q, gallery, k, own=-1):
    """The k nearest of the gallery without `own`, nearest first."""
    order = [i for i in np.argsort(-(gallery @ q), kind="stable") if i != own]
    return order[:k]


def moved(q, gallery, near, alpha):
    return unit(q + sum(max(q @ gallery[i], 0.0) ** alpha * gallery[i] for i in near))


def expansion_oracle(queries, gallery, own, expand, augment, alpha):
    """Cosines of expanded queries and a gallery that is augmented without the query. float64 `[q, m]`."""
    queries, gallery = unit(queries.astype(np.float64)), unit(gallery.astype(np.float64))
    scores = np.zeros((len(queries), len(gallery)))
    for i, q in enumerate(queries):
        left = [g for g in range(len(gallery)) if g != own[i]]
        others = gallery[left]
        asked = moved(q, others, nearest(q, others, expand), alpha) if expand else q
        for place, g in enumerate(left):
            item = others[place]
            if augment:
                item = moved(item, others, nearest(item, others, augment, place), alpha)
            scores[i, g] = asked @ item
    return scores


def reciprocal_oracle(queries, gallery, own, k1, k2, weight):
    """Zhong et al. 2017, equations 2 to 12, a set at a time. float64 `[q, m]`."""
    queries, gallery = unit(queries.astype(np.float64)), unit(gallery.astype(np.float64))
    m = len(gallery)

    def near(p, k):
        return [p, *nearest(gallery[p], gallery, k - 1, p)]

    def mutual(p, k):
        return {g for g in near(p, k) if p in near(g, k)}

    def grown(start):
        result = set(start)
        for g in start:
            half = mutual(g, -(-k1 // 2))
            if len(start & half) >= 2 / 3 * len(half):
                result |= half
        return result

    def values(vector, members):
        row = np.zeros(m + 1)  # the last column is a query that is not in the gallery
        for g in members:
            row[g] = np.exp(-(1 - vector @ gallery[g]))
        return row

    v = np.stack([values(gallery[p], grown(mutual(p, k1))) for p in range(m)])
    averaged = np.stack([np.mean([v[g] for g in near(p, k2)], axis=0) for p in range(m)])
    scores = np.zeros((len(queries), m))
    for i, q in enumerate(queries):
        if own[i] >= 0:
            mine = averaged[own[i]]
        else:
            close = nearest(q, gallery, k1 - 1)
            taken = {g for g in close if q @ gallery[g] >= gallery[g] @ gallery[near(g, k1)[-1]]}
            mine = values(q, grown(taken))
            mine[-1] = 1.0
            mine = np.mean([mine, *(v[g] for g in close[: k2 - 1])], axis=0)
        for g in range(m):
            jaccard = np.minimum(mine, averaged[g]).sum() / np.maximum(mine, averaged[g]).sum()
            scores[i, g] = (1 - weight) * jaccard + weight * (q @ gallery[g])
    return scores


def similarities(queries, gallery, own, options):
    made = rerank(queries, gallery, own, options)
    block = made.queries @ made.gallery.T
    made.adjust(0, block[:20])
    made.adjust(20, block[20:])  # in blocks, each row by its own number
    return block


def sides(kind):
    """Queries, gallery, and which item of it each query is."""
    x, _ = clustered()
    if kind == "leave one out":
        return x, x, np.arange(len(x))
    if kind == "apart":
        return x[:25], x[25:], np.full(25, -1)
    return x[:40], x[25:], np.concatenate([np.full(25, -1), np.arange(15)])  # some are on both sides


KINDS = pytest.mark.parametrize("kind", ["leave one out", "apart", "both"])


@KINDS
@pytest.mark.parametrize(("expand", "augment", "alpha"), [(4, 0, 3.0), (0, 3, 3.0), (5, 2, 1.0), (2, 5, 0.0)])
def test_expansion_and_augmentation_equal_the_loops(kind, expand, augment, alpha):
    queries, gallery, own = sides(kind)
    found = similarities(queries, gallery, own, Rerank(expand=expand, augment=augment, alpha=alpha))
    wanted = expansion_oracle(queries, gallery, own, expand, augment, alpha)
    there = own[:, None] != np.arange(len(gallery))  # an item's similarity to itself is nothing
    np.testing.assert_allclose(found[there], wanted[there], atol=2e-6)


@KINDS
@pytest.mark.parametrize(("k1", "k2", "weight"), [(2, 1, 0.3), (7, 3, 0.3), (8, 8, 0.0), (20, 6, 0.7)])
def test_reciprocal_equals_the_loops(kind, k1, k2, weight):
    queries, gallery, own = sides(kind)
    found = similarities(queries, gallery, own, Rerank(reciprocal=k1, k2=k2, weight=weight))
    np.testing.assert_allclose(found, reciprocal_oracle(queries, gallery, own, k1, k2, weight), atol=2e-6)


def test_more_neighbours_than_items_are_all_of_them():
    x, _ = clustered(6)
    own = np.arange(6)
    for options, wanted in (
        (Rerank(expand=90, augment=90), expansion_oracle(x, x, own, 5, 5, 3.0)),
        (Rerank(reciprocal=90, k2=90), reciprocal_oracle(x, x, own, 90, 90, 0.3)),
    ):
        off = ~np.eye(6, dtype=bool)
        np.testing.assert_allclose(similarities(x, x, own, options)[off], wanted[off], atol=2e-6)


def test_all_at_once_is_each_from_what_was_given():
    """Both sides moved, then the sets of what was given."""
    x, _ = clustered()
    own = np.arange(len(x))
    moved_alone = expansion_oracle(x, x, own, EVERY.expand, EVERY.augment, EVERY.alpha)
    sets = reciprocal_oracle(x, x, own, EVERY.reciprocal, EVERY.averaged, 0.0)
    off = ~np.eye(len(x), dtype=bool)
    found = similarities(x, x, own, EVERY)
    np.testing.assert_allclose(found[off], (0.3 * moved_alone + 0.7 * sets)[off], atol=2e-6)


@pytest.mark.parametrize("cells", [1 << 24, 2000])  # one block, and many
@pytest.mark.parametrize("options", [Rerank(expand=3), Rerank(augment=2), Rerank(reciprocal=6), EVERY], ids=str)
def test_evaluate_ranks_by_them(monkeypatch, cells, options):
    monkeypatch.setattr(knn, "CELLS", cells)
    x, labels = clustered()
    scores = similarities(x, x, np.arange(len(x)), options).astype(np.float64)
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1)
    result = evaluate(x, labels, rerank=options, nmi=False)
    first = labels[order[:, 0]] == labels
    counted = np.array([(labels == label).sum() > 1 for label in labels])
    assert result.metrics["recall@1"] == pytest.approx(first[counted].mean(), abs=1e-12)
    np.testing.assert_array_equal(result.neighbours.indices, order[:, :10])
    np.testing.assert_allclose(result.neighbours.similarities, np.take_along_axis(scores, order[:, :10], 1), atol=2e-6)
    assert result.notes == (f"re-ranked: {options}",)
    by_words = evaluate(x, labels, rerank=str(options), nmi=False)
    assert by_words.metrics == result.metrics


def test_nothing_is_changed_where_nothing_is_asked_for():
    x, labels = clustered()
    plain = evaluate(x, labels, nmi=False)
    for given in (None, "none", "", {}, Rerank(), {"expand": 0}):
        again = evaluate(x, labels, rerank=given, nmi=False)
        assert again.metrics == plain.metrics
        assert again.notes == ()


@pytest.mark.parametrize("options", [Rerank(expand=3), Rerank(augment=3), Rerank(reciprocal=5), EVERY], ids=str)
@pytest.mark.parametrize("tied", ["all", "half"])
def test_ties_do_not_help(options, tied):
    """Items stored class by class; where all are equal, they score as random order does."""
    labels = np.repeat(np.arange(30), 4)
    x = np.ones((120, 8), np.float32)
    if tied == "half":
        x[60:] = np.random.default_rng(0).normal(size=(60, 8))
    plain, result = (evaluate(x, labels, rerank=each, nmi=False) for each in (None, options))
    first = slice(0, 60) if tied == "half" else slice(None)
    before, after = (each.per_query["recall@1"].to_numpy()[first].mean() for each in (plain, result))
    assert after <= before + 0.02


@pytest.mark.parametrize("options", [Rerank(expand=3, augment=3), Rerank(reciprocal=5), EVERY], ids=str)
def test_labels_have_no_part_in_it(options):
    x, labels = clustered()
    other = np.random.default_rng(5).permutation(labels)
    one, two = (evaluate(x, each, rerank=options, nmi=False).neighbours for each in (labels, other))
    np.testing.assert_array_equal(one.indices, two.indices)


@pytest.mark.parametrize("options", [Rerank(expand=3, augment=3), Rerank(reciprocal=5), EVERY], ids=str)
def test_the_order_of_the_items_has_no_part_in_it(options):
    x, labels = clustered()
    order = np.random.default_rng(6).permutation(len(x))
    one, two = (
        evaluate(x, labels, rerank=options, nmi=False),
        evaluate(x[order], labels[order], rerank=options, nmi=False),
    )
    assert one.metrics == pytest.approx(two.metrics, abs=1e-9)


def test_an_item_listed_twice_is_one_item():
    x, labels = clustered()
    once = evaluate(x, labels, np.arange(90), rerank=EVERY, nmi=False)
    twice = evaluate(np.vstack([x, x[:30]]), [*labels, *labels[:30]], [*range(90), *range(30)], rerank=EVERY, nmi=False)
    assert twice.metrics == pytest.approx(once.metrics, abs=1e-9)
    assert twice.repeated == 30


def test_it_finds_more_where_classes_are_clusters():
    x, labels = clustered(600, 60, 16, 0.9)
    plain = evaluate(x, labels, nmi=False).metrics["map@r"]
    for options in ({"expand": 4, "augment": 4}, {"reciprocal": 8}):
        assert evaluate(x, labels, rerank=options, nmi=False).metrics["map@r"] > plain + 0.03


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"expnd": 3}, "expand"),
        ({"expand": 1000}, "0 to 100"),
        ({"expand": 2.5}, "whole number"),
        ({"alpha": -1}, "alpha of rerank"),
        ({"reciprocal": 1}, "0 or from 2 to 100"),
        ({"reciprocal": 5, "k2": 9}, "at most that"),
        ("expand", "expand=5"),
        ("expand=much", "expand of rerank"),
        (7, "mapping"),
    ],
)
def test_wrong_options_say_what_is_right(given, said):
    with pytest.raises(UserError, match=said):
        rerank_of(given)


def test_it_needs_cosines():
    x, labels = clustered()
    with pytest.raises(UserError, match="cosines"):
        evaluate(x, labels, rerank="expand=2", similarity="euclidean")


def test_words_and_options_are_the_same():
    for options in (Rerank(expand=5), Rerank(augment=2, alpha=1.5), Rerank(reciprocal=10, k2=3), EVERY):
        assert rerank_of(str(options)).values() | {"k2": options.averaged} == options.values() | {
            "k2": options.averaged
        }
    assert rerank_of("{expand: 5, augment: 3}") == Rerank(expand=5, augment=3)
    assert str(Rerank()) == "none"


def items_of(labels, split="validation"):
    count = len(labels)
    frame = pd.DataFrame(
        {"id": range(count), "label": labels, "split": split, "role": "both", "path": "", "domain": ""}
    )
    frame = frame.assign(category="", text=[[] for _ in range(count)])
    return Items(frame, {int(label): f"class {label}" for label in set(labels)}, "made")


def test_the_choice_goes_by_the_fewest_neighbours_of_those_that_are_as_good_as_the_best():
    x, labels = clustered(300, 40, 16, 0.7, seed=2)
    chosen = choose_rerank(x, items_of(labels))
    plain = chosen.tried[0]
    assert not plain.options
    assert len(chosen.tried) == 1 + sum(map(len, METHODS.values()))
    assert (chosen.items, chosen.classes) == (300, 40)
    allowed = [each for each in chosen.tried if each.metrics["recall@1"] >= plain.metrics["recall@1"]]
    best = max(allowed, key=lambda each: each.metrics["map@r"])
    by_query = {
        each.options: evaluate(x, labels, rerank=each.options, nmi=False).per_query["map@r"].to_numpy()
        for each in allowed
    }
    counted = ~np.isnan(by_query[best.options])  # not those that are alone in their class
    classes = np.unique(labels[counted])
    alike = []
    for each in allowed:
        difference = (by_query[best.options] - by_query[each.options])[counted]
        squares = sum((difference[labels[counted] == c] - difference.mean()).sum() ** 2 for c in classes)
        if difference.mean() <= math.sqrt(len(classes) / (len(classes) - 1) * squares) / counted.sum():
            alike.append(each)
    fewest = min(o.expand + o.augment + o.reciprocal for o in (each.options for each in alike))
    mine = max((each for each in alike if each.options.neighbours == fewest), key=lambda each: each.metrics["map@r"])
    assert chosen.options == mine.options != best.options
    assert mine.metrics["map@r"] > plain.metrics["map@r"]
    assert mine.metrics["recall@1"] >= plain.metrics["recall@1"]
    again = evaluate(x, labels, rerank=chosen.options, nmi=False, ks=(1,))
    assert again.metrics == pytest.approx(mine.metrics)


def test_nothing_is_chosen_where_nothing_helps():
    x = np.random.default_rng(0).normal(size=(40, 64))
    labels = np.repeat(np.arange(20), 2)
    x[1::2] = x[::2] + 1e-3  # every nearest neighbour is right already
    assert not choose_rerank(x, items_of(labels)).options


def test_a_method_that_there_is_not_has_a_near_name():
    x, labels = clustered()
    with pytest.raises(UserError, match="reciprocal"):
        choose_rerank(x, items_of(labels), "reciprocals")
    with pytest.raises(UserError, match="no validation items"):
        choose_rerank(x[:0], items_of(labels[:0]))


@pytest.mark.parametrize("role", ["both", "apart"])
def test_items_are_reranked_by_their_protocol(role):
    x, labels = clustered()
    items = items_of(labels, "test")
    if role == "apart":
        items.table["role"] = np.where(np.arange(len(x)) % 3, "gallery", "query")
    result = evaluate_items(x, items, rerank=EVERY, nmi=False)
    query, gallery = (np.arange(len(x)) % 3 == 0, np.arange(len(x)) % 3 > 0) if role == "apart" else (slice(None),) * 2
    against = {"gallery": x[gallery], "gallery_labels": labels[gallery]} if role == "apart" else {}
    assert result.metrics == evaluate(x[query], labels[query], rerank=EVERY, nmi=False, **against).metrics
    assert result.notes == (f"re-ranked: {EVERY}",)
