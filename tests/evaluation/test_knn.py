import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullpush.errors import UserError
from pullpush.evaluation import knn, search
from pullpush.evaluation.metrics.nmi import nmi


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 700), st.integers(1, 50), st.integers(0, 9), st.sampled_from([100, 1 << 24]))
def test_search_equals_a_full_sort(n, m, k, seed, cells):
    generator = np.random.default_rng(seed)
    queries, gallery = generator.normal(size=(n, 5)), generator.normal(size=(m, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "CELLS", cells)
        found = search(queries, gallery, k, similarity="dot")
    best = np.argsort(-(queries @ gallery.T), axis=1)[:, :k]
    np.testing.assert_allclose(
        found.similarities[:, : best.shape[1]], np.take_along_axis(queries @ gallery.T, best, 1), atol=1e-4
    )
    # indices belong to the values, no column comes twice, and places beyond the gallery are empty
    np.testing.assert_array_equal(found.indices[:, m:], -1)
    for row, (columns, values) in enumerate(zip(found.indices[:, :m], found.similarities[:, :m], strict=True)):
        assert len(set(columns.tolist())) == len(columns)
        np.testing.assert_allclose(gallery[columns] @ queries[row], values, atol=1e-4)


def test_search_of_equal_vectors_fills_every_place():
    found = search(np.ones((3, 4)), np.ones((5000, 4)), 7)
    assert (np.sort(found.indices, axis=1)[:, 1:] > np.sort(found.indices, axis=1)[:, :-1]).all()


def test_search_never_gives_an_item_itself():
    x = np.random.default_rng(0).normal(size=(50, 4))
    ids = np.random.default_rng(1).permutation(50)
    found = search(x, x, 49, query_ids=ids, gallery_ids=ids)
    assert all(row not in found.indices[row] for row in range(50))
    assert (found.indices >= 0).all()


def test_search_wants_at_least_one():
    with pytest.raises(UserError, match="k is 0"):
        search(np.eye(2), np.eye(2), 0)


def test_nmi_draws_whole_classes_when_the_set_is_large():
    labels = np.repeat(np.arange(100), 5)
    x = np.eye(100, dtype=np.float32)[labels]
    assert nmi(x, labels) == (1.0, 500)
    value, items = nmi(x, labels, budget=5000)
    assert value == 1.0
    assert items < 500
    assert items % 5 == 0
    assert nmi(x, labels, seed=3, budget=5000) == nmi(x, labels, seed=3, budget=5000)
