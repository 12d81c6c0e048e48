import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pullpush.evaluation import evaluate_image_text


def ranks(queries, labels, gallery, gallery_labels):
    """Rank of the nearest match of each query, in plain loops."""
    found = []
    for q, label in zip(queries, labels, strict=True):
        scored = [
            (q @ g / np.linalg.norm(q) / np.linalg.norm(g), other == label)
            for g, other in zip(gallery, gallery_labels, strict=True)
        ]
        matches = [s for s, match in scored if match]
        if matches:
            found.append(1 + sum(s > max(matches) for s, _ in scored))
    return np.array(found)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 15), st.integers(0, 1000))
def test_both_ways_equal_the_loops(n, m, concepts, seed):
    """Several texts an image, several images a text, and some without a match."""
    generator = np.random.default_rng(seed)
    images, texts = generator.normal(size=(n, 6)), generator.normal(size=(m, 6))
    image_labels, text_labels = generator.integers(0, concepts, n), generator.integers(0, concepts, m)
    assume(set(image_labels) & set(text_labels))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts)]
    assume(np.diff(np.sort((unit[0] @ unit[1].T).ravel())).min(initial=1) > 4e-6)  # the loops know no ties
    found = evaluate_image_text(images, image_labels, texts, text_labels)
    for way, expected, left in (
        ("image_to_text", ranks(images, image_labels, texts, text_labels), n),
        ("text_to_image", ranks(texts, text_labels, images, image_labels), m),
    ):
        for k in (1, 5, 10):
            assert found.metrics[f"{way}/recall@{k}"] == pytest.approx((expected <= k).mean())
        assert found.metrics[f"{way}/median_rank"] == np.median(expected)
        assert found.metrics[f"{way}/mean_rank"] == pytest.approx(expected.mean())
        assert getattr(found, way).left_out == left - len(expected)


def test_collapsed_towers_have_the_ranks_of_random_order():
    """Every image embedding equals every description embedding: the right one of 100 is in the middle on average."""
    found = evaluate_image_text(np.ones((100, 8)), np.arange(100), np.ones((100, 8)), np.arange(100)).metrics
    for way in ("image_to_text", "text_to_image"):
        assert found[f"{way}/recall@1"] == pytest.approx(0.01)
        assert found[f"{way}/recall@10"] == pytest.approx(0.10)
        assert found[f"{way}/median_rank"] == pytest.approx(50.5)


def test_matched_towers_are_perfect():
    x = np.random.default_rng(0).normal(size=(30, 8))
    found = evaluate_image_text(x, np.arange(30), np.concatenate([x, x]), np.tile(np.arange(30), 2))
    assert set(found.metrics.values()) == {1.0}
    np.testing.assert_array_equal(np.sort(found.image_to_text.neighbours.indices[:, :2], axis=1)[:, 0], np.arange(30))


def test_images_that_ask_may_be_embedded_otherwise_than_those_that_are_found():
    generator = np.random.default_rng(0)
    images, queries, texts = (generator.normal(size=(n, 6)) for n in (30, 30, 20))
    image_labels, text_labels = np.arange(30) % 10, np.arange(20) % 10
    found = evaluate_image_text(images, image_labels, texts, text_labels, queries=queries).metrics
    asked = evaluate_image_text(queries, image_labels, texts, text_labels).metrics
    plain = evaluate_image_text(images, image_labels, texts, text_labels).metrics
    assert asked["image_to_text/mean_rank"] != plain["image_to_text/mean_rank"]
    assert found == {name: (asked if name.startswith("image_to_text") else plain)[name] for name in found}
