"""`evaluate` against float64 loops, its laws, and the peer where both define the same."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pullpush.errors import UserError
from pullpush.evaluation import evaluate, knn
from pullpush.evaluation.metrics import per_query
from pullpush.evaluation.metrics.base import Standing, first_rank

KS = (1, 2, 5, 50)
METRICS = [*(f"recall@{k}" for k in KS), "r_precision", "map@r", "mrr"]


def clustered(n=240, classes=40, dim=16, noise=0.9, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    return (generator.normal(size=(classes, dim))[labels] + noise * generator.normal(size=(n, dim))), labels


def oracle(queries, labels, ids, gallery, gallery_labels, gallery_ids, similarity="cosine"):
    """Plain loops in float64; data without ties."""
    rows = []
    for q, label, own in zip(queries, labels, ids, strict=True):
        scored = []
        for g, other, their in zip(gallery, gallery_labels, gallery_ids, strict=True):
            if their == own:
                continue
            if similarity == "cosine":
                s = q @ g / (math.sqrt(q @ q) * math.sqrt(g @ g))
            elif similarity == "dot":
                s = q @ g
            else:
                s = -((q - g) @ (q - g))
            scored.append((s, other == label))
        hits = [hit for _, hit in sorted(scored, key=lambda pair: -pair[0])]
        r = sum(hits)
        if not r:
            continue
        precision = [sum(hits[:i]) / i for i in range(1, r + 1)]
        rows.append(
            [float(any(hits[:k])) for k in KS]
            + [precision[-1], sum(p for p, hit in zip(precision, hits[:r], strict=True) if hit) / r]
            + [1 / (1 + hits.index(True))]
        )
    return dict(zip(METRICS, np.mean(rows, axis=0), strict=True)), len(queries) - len(rows)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("cells", [1 << 24, 2000])  # one block, and many
def test_leave_one_out_equals_the_loops(monkeypatch, similarity, cells):
    monkeypatch.setattr(knn, "CELLS", cells)
    x, labels = clustered()
    labels[:3] = [900, 901, 902]  # classes of one
    ids = np.random.default_rng(1).permutation(len(x)) * 7
    found = evaluate(x, labels, ids, ks=KS, similarity=similarity, nmi=False)
    expected, left_out = oracle(x, labels, ids, x, labels, ids, similarity)
    assert found.metrics == pytest.approx(expected, abs=1e-9)
    assert found.left_out == left_out >= 3
    assert found.per_query.loc[:2, METRICS].isna().all(axis=None)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 10_000), st.floats(0.1, 3))
def test_query_against_gallery_equals_the_loops(n, classes, seed, noise):
    x, labels = clustered(n + 30, classes, 8, noise, seed)
    ids = np.random.default_rng(seed).permutation(n + 30)
    # ten items stand on both sides
    query, gallery = slice(0, n), slice(n - 2 if n < 10 else n - 10, None)
    parts = (x[query], labels[query], ids[query], x[gallery], labels[gallery], ids[gallery])
    assume(np.isin(labels[query], labels[gallery]).any())
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assume(np.diff(np.sort(unit[query] @ unit[gallery].T)).min() > 4e-6)  # the loops know no ties
    expected, left_out = oracle(*parts)
    found = evaluate(
        *parts[:3], gallery=parts[3], gallery_labels=parts[4], gallery_ids=parts[5], ks=KS, nmi=False, neighbours=3
    )
    assert found.metrics == pytest.approx(expected, abs=1e-9)
    assert found.left_out == left_out


def test_many_positives_equal_the_loops():
    x, labels = clustered(300, 2, 8, noise=2.0)
    labels[:4] = 5
    ids = np.arange(300)
    assert evaluate(x, labels, ks=KS, nmi=False).metrics == pytest.approx(oracle(x, labels, ids, x, labels, ids)[0])


def test_agrees_with_the_peer():
    peer = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    AccuracyCalculator = peer.AccuracyCalculator

    x, labels = (torch.from_numpy(array) for array in clustered(400, 60, 32))
    x = torch.nn.functional.normalize(x.float())
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    theirs = AccuracyCalculator(include=names).get_accuracy(x, labels)
    ours = evaluate(x, labels, nmi=False).metrics
    got = (ours["recall@1"], ours["r_precision"], ours["map@r"])
    assert got == pytest.approx([theirs[name] for name in names], abs=1e-6)


def test_permutation_changes_nothing():
    x, labels = clustered()
    order = np.random.default_rng(3).permutation(len(x))
    a, b = (evaluate(x[rows], labels[rows], ks=KS, nmi=False) for rows in (np.arange(len(x)), order))
    assert a.metrics == pytest.approx(b.metrics, abs=1e-12)
    np.testing.assert_allclose(a.per_query["map@r"].to_numpy()[order], b.per_query["map@r"], atol=1e-12)


@pytest.mark.parametrize("noise", [0.0, 1e-8])
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_collapsed_embeddings_score_as_random_order_does(similarity, noise):
    """Exactly: of n - 1 others r are positives. The noise is that of the last bit."""
    x, labels = clustered(300, 30)
    x = np.ones((300, 64)) + noise * np.random.default_rng(0).normal(size=(300, 64))
    found = evaluate(x, labels, ks=KS, similarity=similarity, neighbours=5)
    r = np.array([(labels == label).sum() - 1 for label in labels])
    for k in KS:
        chance = np.mean([1 - math.comb(299 - p, k) / math.comb(299, k) for p in r])
        assert found.metrics[f"recall@{k}"] == pytest.approx(chance, rel=1e-9)
    assert found.metrics["r_precision"] == pytest.approx(np.mean(r / 299))
    # the chance that place i holds a positive, times one plus the others expected above it, over i
    map_at_r = [sum((1 + (i - 1) * (p - 1) / 298) / i for i in range(1, p + 1)) / 299 for p in r]
    assert found.metrics["map@r"] == pytest.approx(np.mean(map_at_r))
    assert found.metrics["nmi"] < 0.01
    assert found.neighbours.indices.min() >= 0


def test_collapsed_like_random_embeddings_on_average():
    _, labels = clustered(300, 30)
    collapsed = evaluate(np.ones((300, 8)), labels, ks=KS, nmi=False).metrics
    runs = [
        evaluate(np.random.default_rng(seed).normal(size=(300, 64)), labels, ks=KS, nmi=False).metrics
        for seed in range(30)
    ]
    for name, value in collapsed.items():
        values = np.array([run[name] for run in runs])
        assert abs(values.mean() - value) < 5 * values.std(ddof=1) / math.sqrt(30) + 1e-4, name


@pytest.mark.parametrize("scale", [0.0, 1e-3])
def test_perfect_embeddings_score_one_in_every_metric(scale):
    _, labels = clustered(500, 60)
    x = np.eye(60)[labels] + scale * np.random.default_rng(0).normal(size=(500, 60))
    assert set(evaluate(x, labels).metrics.values()) == {1.0}


def test_an_item_never_retrieves_itself_wherever_it_stands():
    """Identity is the id: not the row number, and not the value."""
    x = np.eye(4)
    # every class has two unlike items: whoever found itself would score 1
    found = evaluate(x, [0, 0, 1, 1], [5, 6, 7, 8], ks=(1,), nmi=False)
    assert found.metrics["recall@1"] == pytest.approx(1 / 3)
    moved = [2, 0, 3, 1]
    labels, ids = np.array([0, 0, 1, 1])[moved], np.array([5, 6, 7, 8])[moved]
    crossed = evaluate(
        x, [0, 0, 1, 1], [5, 6, 7, 8], gallery=x[moved], gallery_labels=labels, gallery_ids=ids, ks=(1,), nmi=False
    )
    assert crossed.metrics["recall@1"] == pytest.approx(1 / 3)
    # the same vectors under other ids are other items
    others = evaluate(
        x, [0, 0, 1, 1], [5, 6, 7, 8], gallery=x, gallery_labels=[0, 0, 1, 1], gallery_ids=[1, 2, 3, 4], ks=(1,)
    )
    assert others.metrics["recall@1"] == 1.0


def test_an_item_listed_twice_counts_once():
    x, labels = clustered()
    ids = np.arange(len(x))
    twice = np.concatenate([ids, ids[:50], ids[:9]])
    plain, padded = evaluate(x, labels, ids), evaluate(x[twice], labels[twice], twice)
    assert padded.metrics == pytest.approx(plain.metrics, abs=1e-12)
    assert padded.repeated == 59
    assert padded.per_class["queries"].equals(plain.per_class["queries"])


def test_a_copy_under_another_id_changes_nothing_for_the_other_classes_first_neighbour():
    x, labels = clustered()
    copied = evaluate(np.concatenate([x, x[:1]]), np.append(labels, labels[0]), nmi=False).per_query
    plain = evaluate(x, labels, nmi=False).per_query
    others = np.flatnonzero(labels != labels[0])
    # a tie of two negatives is still one wrong neighbour
    assert plain["recall@1"].iloc[others].equals(copied["recall@1"].iloc[others])
    # and the copy itself is found, since it is another item
    assert copied["recall@1"].iloc[[0, -1]].tolist() == [1.0, 1.0]


def test_equal_vectors_tie_although_products_round_differently(monkeypatch):
    """Rows of equal vectors, some positive, some not, at columns that matrix products treat differently."""
    generator = np.random.default_rng(0)
    base = generator.normal(size=(1, 257)).astype(np.float32)
    gallery = np.repeat(base, 1001, axis=0)
    labels = (np.arange(1001) % 7 == 0).astype(int)
    queries = base + 0.3 * generator.normal(size=(37, 257)).astype(np.float32)
    found = evaluate(
        queries, np.ones(37, dtype=int), gallery=gallery, gallery_labels=labels, ks=(1, 3), nmi=False, neighbours=0
    )
    share = labels.mean()
    assert found.metrics["recall@1"] == pytest.approx(share, rel=1e-9)
    assert found.metrics["r_precision"] == pytest.approx(share, rel=1e-9)


def test_a_tie_at_the_edge_of_the_shortlist_is_seen_whole():
    """R = 1: the positive ties with 499 negatives, of which a list of nearest would show few."""
    x = np.concatenate([[[1.0, 0.0]], np.repeat([[0.6, 0.8]], 500, axis=0), np.repeat([[-1.0, 0.0]], 700, axis=0)])
    gallery_labels = np.zeros(1200, dtype=int)
    gallery_labels[123] = 1
    found = evaluate(x[:1], [1], gallery=x[1:], gallery_labels=gallery_labels, ks=(1, 250), nmi=False, neighbours=2)
    assert found.metrics["recall@1"] == pytest.approx(1 / 500)
    assert found.metrics["recall@250"] == pytest.approx(1 / 2)
    assert found.metrics["map@r"] == pytest.approx(1 / 500)
    assert found.per_query["rank"].item() == pytest.approx(250.5)


@pytest.mark.parametrize("points", [1, 7, 60, "half"])
def test_heavy_ties_equal_the_counts(monkeypatch, points):
    """Against counting every row, with products that are whole numbers; most rows have ties enough to be sorted."""
    dense = []
    whole = knn.shortlist

    def spy(*given):
        found = whole(*given)
        dense.append(len(found.dense))
        return found

    monkeypatch.setattr(knn, "shortlist", spy)
    n, draw = 3000, np.random.default_rng(0)
    own = np.where(np.arange(n) < n // 2, 0, np.arange(n)) if points == "half" else draw.integers(0, points, n)
    at = draw.integers(-20, 21, (n, 8)).astype(np.float64)
    labels = draw.permutation(n) // 6
    found = evaluate(at[own], labels, ks=KS, similarity="dot", nmi=False, neighbours=3)
    assert sum(dense) > 0.4 * n

    far = at @ at.T
    counts = np.zeros((4, n, 5), dtype=np.int64)
    for i in range(n):
        s = far[own[i], own]
        s[i] = -np.inf
        positives = np.flatnonzero((labels == labels[i]) & (np.arange(n) != i))
        positives = positives[np.argsort(-s[positives], kind="stable")]
        for place, j in enumerate(positives):
            above, tied = s > s[j], s == s[j]
            counts[:, i, place] = above.sum(), tied.sum(), above[positives].sum(), tied[positives].sum()
    standing = Standing(*map(torch.from_numpy, counts), torch.ones(n, 5, dtype=torch.bool))
    for name, function in {"rank": first_rank, **per_query([2])}.items():
        expected = function(standing).numpy()
        np.testing.assert_allclose(found.per_query[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)
    nearest = found.neighbours
    assert (nearest.indices != np.arange(n)[:, None]).all()
    assert all(len(set(row)) == 3 for row in nearest.indices.tolist())
    best = np.stack([np.sort(np.delete(far[own[i], own], i))[:-4:-1] for i in range(0, n, 50)])
    taken = np.take_along_axis(far[own][::50][:, own], nearest.indices[::50], axis=1)
    np.testing.assert_array_equal(taken, best)


def test_frames_and_neighbours():
    x, labels = clustered(200, 20)
    categories = np.where(labels % 2 == 0, "even", "odd")
    found = evaluate(torch.from_numpy(x), torch.from_numpy(labels), categories=categories, neighbours=4, ks=KS)
    for frame, by in ((found.per_class, labels), (found.per_category, categories)):
        for key, row in frame.iterrows():
            chosen = found.per_query[by == key]
            assert row["queries"] == chosen["map@r"].notna().sum()
            assert row["map@r"] == pytest.approx(chosen["map@r"].mean())
    assert found.metrics["map@r"] == pytest.approx(
        np.average(found.per_class["map@r"], weights=found.per_class.queries)
    )
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = unit @ unit.T - 3 * np.eye(200)
    best = np.argsort(-similarity, axis=1)[:, :4]
    np.testing.assert_array_equal(found.neighbours.indices, best)
    np.testing.assert_allclose(found.neighbours.similarities, np.take_along_axis(similarity, best, 1), atol=1e-5)


def test_fewer_references_than_neighbours():
    found = evaluate(np.eye(3), [0, 0, 1], neighbours=5, nmi=False)
    assert (found.neighbours.indices[:, 2:] == -1).all()
    assert set(found.neighbours.indices[0, :2]) == {1, 2}


def test_input_is_left_alone_and_half_precision_is_read():
    x, labels = clustered()
    before = x.astype(np.float32).copy()
    given = before.copy()
    evaluate(given, labels)
    np.testing.assert_array_equal(given, before)
    assert evaluate(torch.from_numpy(before).bfloat16(), labels, nmi=False).metrics["recall@1"] > 0


def test_global_random_state_is_left_alone():
    x, labels = clustered()
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    a, b = evaluate(x, labels, seed=4).metrics, evaluate(x, labels, seed=4).metrics
    assert (torch.rand(1), np.random.rand()) == expected
    assert a == b


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embeddings": np.array([[0.0, 1], [np.nan, 1], [1, 0], [np.inf, 1]])}, "2 of 4 rows .* first row 1"),
        ({"embeddings": np.zeros(4)}, r"shape \[4\]"),
        ({"embeddings": np.zeros((0, 3))}, r"shape \[0, 3\]"),
        ({"labels": [0, 0, 1]}, r"labels have the shape \[3\]"),
        ({"labels": [0.5, 0, 1, 1]}, "not integers"),
        ({"labels": [0, 1, 2, 3]}, "none of the 4 queries has a positive"),
        ({"ids": [1, 1, 2, 3], "labels": [0, 1, 1, 0]}, "id 1 has two labels"),
        ({"ids": [1, 2]}, "ids have the shape"),
        ({"similarity": "cosin"}, "'cosin' is unknown"),
        ({"ks": (0, 1)}, "at least 1"),
        ({"gallery_labels": [0]}, "without a gallery"),
        ({"gallery": np.eye(4)}, "gallery_labels are missing"),
        ({"gallery": np.eye(3), "gallery_labels": [0, 1, 2]}, "4 dimensions, the gallery 3"),
        ({"gallery": np.eye(4), "gallery_labels": [0, 1, 2, 3], "ids": [0, 1, 2, 3]}, "one side only"),
        ({"categories": ["a"]}, "categories have the shape"),
    ],
)
def test_bad_input_is_named(change, said):
    given = {"embeddings": np.eye(4), "labels": [0, 0, 1, 1], "nmi": False} | change
    with pytest.raises(UserError, match=said):
        evaluate(**given)


def test_names_and_lists_are_labels_and_ids():
    x, numbers = clustered(60, 8)
    names = np.array([f"class {chr(104 - i)}" for i in range(8)])  # not in the order of the numbers
    files = [f"{i}.png" for i in range(60)]
    expected = evaluate(x, numbers, range(60), ks=KS)
    for named in (names[numbers], names[numbers].tolist(), pd.Series(names[numbers], index=range(7, 67))):
        found = evaluate(x, named, files, ks=KS)
        assert {k: v for k, v in found.metrics.items() if k != "nmi"} == pytest.approx(
            {k: v for k, v in expected.metrics.items() if k != "nmi"}
        )
        assert found.per_query["label"].tolist() == names[numbers].tolist()
        assert found.per_query["id"].tolist() == files
        assert found.per_class.index.tolist() == sorted(names)
        np.testing.assert_allclose(found.per_class.loc[names].to_numpy(), expected.per_class.to_numpy())
        np.testing.assert_array_equal(found.neighbours.indices, expected.neighbours.indices)
    both = evaluate(
        x[:20],
        names[numbers[:20]],
        files[:20],
        gallery=x[10:],
        gallery_labels=names[numbers[10:]].tolist(),
        gallery_ids=files[10:],
        nmi=False,
    )
    plain = evaluate(
        x[:20],
        numbers[:20],
        range(20),
        gallery=x[10:],
        gallery_labels=numbers[10:],
        gallery_ids=range(10, 60),
        nmi=False,
    )
    assert both.metrics == pytest.approx(plain.metrics)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["a", "a", None, "b"]}, "not integers or names"),
        ({"labels": ["a", "a", "b", "b"], "gallery": np.eye(4), "gallery_labels": [0, 0, 1, 1]}, "one side"),
        ({"labels": ["a", "b", "b", "b"], "ids": ["x", "x", "y", "z"]}, r"id x has two labels \(a and b\)"),
        ({"labels": [["a", "a"], ["b", "b"]]}, r"shape \[2, 2\]"),
    ],
)
def test_names_that_do_not_fit_are_named(change, said):
    with pytest.raises(UserError, match=said):
        evaluate(**({"embeddings": np.eye(4), "labels": [0, 0, 1, 1], "nmi": False} | change))
