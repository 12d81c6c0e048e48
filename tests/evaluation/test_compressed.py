"""What small embeddings find: against loops in float64, and fair where many bits are equal."""

import numpy as np
import pytest

from pullpush.encoders.compression import DTYPES, Compression, decode, encode
from pullpush.errors import UserError
from pullpush.evaluation import compressed, evaluate, evaluate_items, knn
from pullpush.evaluation.compression import RESCORED, Rescored
from tests.evaluation.test_protocols import clustered, items_of


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def signed(x):
    return np.hstack([x, np.where(x >= 0, 1, -1)]).astype(np.float32)


def oracle(x, i, others, candidates):
    """Numbers of the others, nearest first, and whether bits alone decide who is a candidate."""
    stored = decode(encode(x, "int8"), x.shape[1]).astype(float)
    hamming = {j: int(((x[i] >= 0) != (x[j] >= 0)).sum()) for j in others}
    order = sorted(others, key=lambda j: hamming[j])
    chosen, rest = order[:candidates], order[candidates:]
    clear = not rest or hamming[chosen[-1]] < hamming[rest[0]]
    return sorted(chosen, key=lambda j: -(x[i].astype(float) @ stored[j])) + rest, clear


@pytest.mark.parametrize("cells", [1 << 24, 500])
@pytest.mark.parametrize("candidates", [1, 7, 1000])
def test_candidates_come_first_by_their_int8_embeddings(monkeypatch, cells, candidates):
    monkeypatch.setattr(knn, "CELLS", cells)
    x, labels = clustered(classes=12, each=5)
    x = unit(np.tile(x, 4) + 0.3 * np.random.default_rng(1).normal(size=(60, 64)))
    found = evaluate(signed(x), labels, ks=(1, 2), similarity=Rescored(candidates), nmi=False, neighbours=0).per_query
    checked = 0
    for i in range(60):
        others = [j for j in range(60) if j != i]
        order, clear = oracle(x, i, others, candidates)
        if not clear:
            continue
        checked += 1
        hits = [labels[j] == labels[i] for j in order[: max(candidates, 1)]]
        assert found["recall@1"][i] == hits[0]
        if candidates >= 4:
            expected = sum(sum(hits[: k + 1]) / (k + 1) for k in range(4) if hits[k]) / 4
            assert found["map@r"][i] == pytest.approx(expected)
    assert checked > 20
    near = knn.search(signed(x), signed(x), 3, query_ids=labels * 0 + np.arange(60), gallery_ids=np.arange(60),
                      similarity=Rescored(1000)).indices  # fmt: skip
    for i in range(60):
        assert list(near[i]) == oracle(x, i, [j for j in range(60) if j != i], 1000)[0][:3]


def test_where_all_is_tied_rescoring_finds_what_chance_does():
    """Each class stands together in the gallery, and no draw favours it."""
    labels = np.repeat(np.arange(12), 5)
    same = signed(unit(np.ones((60, 8))))
    scores = [
        evaluate(same, labels, similarity=Rescored(6, seed), nmi=False, neighbours=0).metrics for seed in range(60)
    ]
    assert np.mean([each["recall@1"] for each in scores]) == pytest.approx(4 / 59, abs=0.01)


def test_rows_are_what_evaluate_finds_in_the_decoded_embeddings():
    x, labels = clustered()
    x, items = unit(x), items_of(labels)
    small = Compression.fit(x)
    rows = compressed(x, items, small, dims=(16, 5))
    kinds = [("none", 16), ("prefix", 5), ("pca", 5)]
    assert [(r.reduction, r.dim, r.dtype) for r in rows] == [(*kind, d) for kind in kinds for d in (*DTYPES, RESCORED)]
    assert [r.bytes for r in rows[:5]] == [64, 32, 16, 2, 18]
    assert [r.scanned for r in rows[-5:]] == [20, 10, 5, 1, 1]
    for row in rows:
        if row.dtype == RESCORED:
            continue
        kind = Compression(small.mean, small.components, "pca" if row.reduction == "pca" else "prefix")
        decoded = decode(kind(x, row.dim, row.dtype), row.dim)
        expected = evaluate_items(decoded, items, nmi=False).metrics
        assert (row.recall_at_1, row.map_at_r) == (expected["recall@1"], expected["map@r"])
        assert row.values()["recall@1"] == row.recall_at_1
    assert {r.reduction for r in compressed(x, items, Compression(), dims=(5,))} == {"none", "prefix"}


def test_no_candidates_are_named():
    with pytest.raises(UserError, match="rescore at least 1"):
        Rescored(0)
