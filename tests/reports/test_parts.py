"""What the figures show is right: neighbours, pairs, samples, maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation.projection import project
from pullpush.evaluation.protocols import evaluate_items
from pullpush.reports import grids, histograms, style, tables
from pullpush.reports.interactive import COLOURS, groupings_of
from pullpush.reports.projection import Map, colored_classes, subsample
from pullpush.runs.reader import Missing


def items_of(labels: list[int], roles: list[str] | None = None, **columns: object) -> Items:
    table = pd.DataFrame({"path": [f"nowhere/{i}.png" for i in range(len(labels))], "label": labels, **columns})
    if roles:
        table["role"] = roles
    return Items(table, [f"class {i}" for i in range(max(labels) + 1)])


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def rank(x: np.ndarray, items: Items, k: int = 5) -> SimpleNamespace:
    """What the queries that count find: their rows, nearest rows, recall@1, ranks; and the evaluation itself."""
    found = evaluate_items(x, items, nmi=False, neighbours=k)
    per_query = found.per_query[found.counted]
    return SimpleNamespace(
        found=found,
        queries=per_query.index.to_numpy(),
        nearest=found.neighbours.indices[found.counted],
        hit=per_query["recall@1"].to_numpy(),
        place=per_query["rank"].to_numpy(),
        left_out=found.left_out,
    )


def loop_oracle(x: np.ndarray, items: Items) -> dict[int, tuple[float, int, int]]:
    """query row -> (recall@1, place of the first positive, nearest row), one pair at a time."""
    table, found = items.table, {}
    for q in range(len(table)):
        if table["role"][q] == "gallery":
            continue
        references = [r for r in range(len(table)) if table["role"][r] != "query" and table["id"][r] != table["id"][q]]
        scores = {r: float(x[q].astype(np.float64) @ x[r]) for r in references}
        positive = [r for r in references if table["label"][r] == table["label"][q]]
        if positive:
            best = max(scores[r] for r in positive)
            nearest = max(references, key=lambda r: scores[r])
            place = 1 + sum(scores[r] > best for r in references if r not in positive)
            found[q] = (float(nearest in positive), place, nearest)
    return found


@pytest.mark.parametrize("mixed", [False, True])
def test_ranking_agrees_with_a_loop(mixed: bool) -> None:
    rng = np.random.default_rng(1)
    labels = [*rng.integers(0, 12, 60).tolist(), 12]  # the last class has one item: its query is left out
    roles = rng.choice(["query", "gallery", "both"], 61).tolist() if mixed else None
    items = items_of(labels, roles)
    x = unit(rng.normal(size=(61, 6)) + 2 * rng.normal(size=(13, 6))[labels])
    expected = loop_oracle(x, items)
    ranking = rank(x, items)
    assert ranking.queries.tolist() == list(expected)
    np.testing.assert_array_equal(ranking.hit, [e[0] for e in expected.values()])
    np.testing.assert_array_equal(ranking.place, [e[1] for e in expected.values()])
    np.testing.assert_array_equal(ranking.nearest[:, 0], [e[2] for e in expected.values()])
    queries = sum(role != "gallery" for role in items.table["role"])
    assert ranking.left_out == queries - len(expected) > 0


def test_a_collapsed_model_scores_like_chance_and_stands_last() -> None:
    items = items_of([0, 0, 1, 1, 2, 2])
    ranking = rank(np.ones((6, 3), np.float32) / np.sqrt(3).astype(np.float32), items)
    np.testing.assert_allclose(ranking.hit, 1 / 5)
    # the expected rank of the one positive among five that are tied, as evaluation has it
    assert (ranking.place == 3).all()


@pytest.mark.parametrize("mixed", [False, True])
def test_recall_is_the_number_of_the_evaluation(mixed: bool) -> None:
    """Similarities that are tied but for their last bits: counted one by one they would be another number."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 6)
    roles = rng.choice(["query", "gallery", "both"], 180).tolist() if mixed else None
    items = items_of(labels.tolist(), roles)
    corners = unit(rng.integers(-1, 2, size=(40, 8)) + 0.01)[rng.integers(0, 40, 180)]
    corners = (corners + rng.normal(size=corners.shape) * 3e-8).astype(np.float32)
    ranking = rank(corners, items)
    stated = evaluate_items(corners, items).metrics["recall@1"]
    assert ranking.hit.mean() == stated
    assert np.mean((ranking.hit > 0) & (ranking.hit < 1)) > 0  # there are ties


def test_small_galleries_give_fewer_neighbours() -> None:
    ranking = rank(unit(np.eye(3) + 0.1), items_of([0, 0, 1]), k=5)
    assert ((ranking.nearest >= 0).sum(1) == 2).all()  # the query itself is no reference
    with pytest.raises(UserError, match="positive"):
        rank(unit(np.eye(3)), items_of([0, 1, 2]))


def test_confused_classes_are_counted_in_both_directions() -> None:
    # Class 0 and 1 lie on one another's items, class 2 is apart.
    angles = np.array([0.0, 0.30, 0.01, 0.31, 2.0, 2.01])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    items = items_of([0, 0, 1, 1, 2, 2])
    (pair,) = grids.confusions(items, rank(x, items).found)
    assert (pair.count, pair.queries) == (4, 4)
    assert {pair.first[0].name, pair.second[0].name} == {"class 0", "class 1"}


def test_worst_queries_come_in_order_and_show_their_first_right_reference() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 4).tolist()
    items, x = items_of(labels), unit(rng.normal(size=(80, 3)))
    ranking = rank(x, items)
    rows = grids.worst_rows(items, ranking.found, count=5)
    places = [float(row.note.split("\n")[1]) for row in rows]
    assert places == sorted(places, reverse=True)
    assert places[0] == ranking.place.max()
    assert all(row.groups[1][0].right and row.groups[1][0].name == row.query.name for row in rows)
    assert len({row.query.name for row in rows}) == 5
    assert all(row.query.image is None for row in rows)  # the files do not exist: empty frames, no crash


def test_sampled_pairs_are_what_they_are_called_uniform_and_repeatable() -> None:
    labels = np.array([0] * 20 + [1] * 120 + [2] * 300 + [3])
    sample = histograms.sample_pairs(labels, 40_000)
    assert sample.drawn == (True, True)
    first, second = labels[sample.positive].T
    assert (first == second).all()
    assert (sample.positive[:, 0] != sample.positive[:, 1]).all()
    share = np.bincount(first, minlength=4) / len(first)
    np.testing.assert_allclose(share, np.array([380, 14_280, 89_700, 0]) / 104_360, atol=0.01)
    first, second = labels[sample.negative].T
    assert (first != second).all()
    assert len(sample.negative) == 40_000
    again = histograms.sample_pairs(labels, 40_000)
    np.testing.assert_array_equal(sample.positive, again.positive)
    np.testing.assert_array_equal(sample.negative, again.negative)
    assert str(sample) == "40,000 positive pairs drawn at random and 40,000 negative pairs drawn at random"
    for alone in ([0, 0, 0], [0, 1, 2]):
        with pytest.raises(Missing):
            histograms.sample_pairs(np.array(alone))


def test_of_few_items_all_pairs_are_there_once() -> None:
    labels = np.random.default_rng(0).permutation([0] * 2 + [1] * 4 + [2] * 10 + [3])
    sample = histograms.sample_pairs(labels)
    rows = {(a, b): bool(labels[a] == labels[b]) for a in range(17) for b in range(a + 1, 17)}
    for pairs, same in ((sample.positive, True), (sample.negative, False)):
        found = [tuple(sorted(pair)) for pair in pairs.tolist()]
        assert sorted(found) == [pair for pair, alike in rows.items() if alike is same]
    assert str(sample) == "the 52 positive pairs and 84 negative pairs"
    some = replace(sample, negative=sample.negative[:50], drawn=(False, True))
    assert str(some) == "the 52 positive pairs and 50 negative pairs drawn at random"


def test_figures_take_the_fonts_of_other_scripts_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [SimpleNamespace(name=name) for name in ("Noto Sans Thai", "Comic", "Droid Sans Fallback")]
    monkeypatch.setattr(style, "fontManager", SimpleNamespace(ttflist=there))
    assert style._families.__wrapped__() == ["DejaVu Sans", "Droid Sans Fallback", "Noto Sans Thai"]
    with matplotlib.rc_context(style.settings(style.LIGHT)):  # none that is not there, which matplotlib would tell of
        assert matplotlib.rcParams["font.sans-serif"][0] == "DejaVu Sans"


def test_counts_of_classes_have_whole_numbers_on_their_axes() -> None:
    figures = [
        (histograms.draw_class_recall([("after training", np.array([0.5, 1.0]))], style.LIGHT), "yaxis"),
        (histograms.draw_seen(np.array([40.0, 40.0, 40.0]), style.LIGHT), "xaxis"),
    ]
    for figure, axis in figures:
        assert all(float(tick).is_integer() for tick in getattr(figure.axes[0], axis).get_majorticklocs())


def test_separation_is_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 9, 50).astype(float), rng.integers(-3, 6, 70).astype(float)
    compare = positive[:, None] - negative[None, :]
    assert histograms.separation(positive, negative) == pytest.approx((compare > 0).mean() + (compare == 0).mean() / 2)


def test_subsample_keeps_classes_whole_and_under_the_limit() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(300), 7))
    rows = subsample(labels, 700)
    assert len(rows) == 700
    assert (np.unique(labels[rows], return_counts=True)[1] == 7).all()
    few = np.repeat(np.arange(4), 5000)  # few large classes: each gives its share
    assert np.unique(few[subsample(few, 1000)], return_counts=True)[1].tolist() == [250] * 4
    assert subsample(labels, 5000).tolist() == list(range(2100))
    np.testing.assert_array_equal(rows, subsample(labels, 700))


def test_umap_separates_clusters_and_repeats_and_few_points_get_pca() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    x = unit(np.eye(3, 8)[labels] + 0.1 * rng.normal(size=(90, 8)))
    points, method = project(x)
    assert method == "UMAP"
    centers = np.stack([points[labels == c].mean(0) for c in range(3)])
    nearest = np.linalg.norm(points[:, None] - centers[None], axis=2).argmin(1)
    assert (nearest == labels).all()
    np.testing.assert_array_equal(points, project(x)[0])
    assert project(x[:20])[1] == "PCA"
    flat, method = project(np.ones((80, 4), np.float32) / 2)
    assert method == "PCA"
    assert np.isfinite(flat).all()
    assert project(x[:1])[0].shape == (1, 2)


def test_few_classes_are_coloured() -> None:
    labels = np.repeat(np.arange(30), np.arange(1, 31))
    chosen = colored_classes(labels)
    assert len(chosen) == 8
    assert chosen.min() >= 14  # of the larger half


def test_recall_tables_agree_with_the_ranking() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(30), 5).tolist()
    items = items_of(labels, category=["even" if label % 2 == 0 else "odd" for label in labels])
    x = unit(rng.normal(size=(150, 5)) + 1.5 * rng.normal(size=(30, 5))[labels])
    ranking = rank(x, items)
    frame = tables.category_table(items, {"after": ranking.found})
    assert (frame["after"] * frame["queries"]).sum() / 150 == pytest.approx(ranking.hit.mean())
    assert frame.loc["odd", "classes"] == 15
    assert ranking.found.per_class["recall@1"].mean() == pytest.approx(ranking.hit.mean())
    mean, low, high = tables.recall_interval(ranking.found)
    assert mean == pytest.approx(ranking.hit.mean())
    assert low < mean < high
    assert tables.category_table(items_of(labels), {"after": rank(x, items_of(labels)).found}).empty


SHAPES = {"tall": (20, 80), "wide": (90, 30), "square": (40, 40)}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_picture_of_any_shape_is_whole_in_a_frame_of_its_shape(shape: str, tmp_path: Path) -> None:
    width, height = SHAPES[shape]
    image = Image.new("RGB", (width, height), "red")
    image.putpixel((0, 0), (0, 0, 255))
    image.save(tmp_path / "a.png")
    items = Items(pd.DataFrame({"path": [str(tmp_path / "a.png")], "label": [0]}), ["a"])
    found = grids.thumbnail(items, 0)
    assert found is not None
    assert found.shape[1] / found.shape[0] == pytest.approx(width / height, rel=0.05)
    assert max(found.shape) == 128
    assert (found[:, :, 1] < 60).all()  # nothing is added to it
    assert found[0, 0, 2] > 100  # nothing is cut off
    _, axes = grids.canvas(2, 2, "")
    grids.draw_tile(axes, 0, 0, grids.Tile(found, "a", True), style.LIGHT)
    frame = axes.patches[0].get_extents().size
    assert frame[0] / frame[1] == pytest.approx(width / height, rel=0.1)


def test_the_map_is_coloured_by_what_tells_items_apart() -> None:
    table = {"split": ["train"] * 30 + ["test"] * 10, "category": ["x"] * 20 + ["y"] * 15 + ["z"] * 5}
    items = items_of(np.repeat(np.arange(20), 2).tolist(), **table)
    one = Map(items, np.arange(40), np.zeros((40, 2)), "PCA")
    found = {grouping.by: grouping for grouping in groupings_of(one, np.arange(40))}
    assert list(found) == ["category", "class", "split"]  # the domain is the same for all
    assert found["category"].groups == ["x", "y", "z"]
    assert found["category"].codes == [0] * 20 + [1] * 15 + [2] * 5
    assert found["split"].codes == [0] * 30 + [1] * 10
    assert len(found["class"].groups) == len(COLOURS) < 20  # the rest is one grey
    assert found["class"].codes.count(-1) == 2 * (20 - len(COLOURS))
    pairs = items_of(list(range(40)), **table)
    assert [g.by for g in groupings_of(Map(pairs, np.arange(40), np.zeros((40, 2)), "PCA"), np.arange(40))] == [
        "category",
        "split",
    ]


def test_items_without_classes_are_named_by_their_text() -> None:
    items = items_of([0, 1, 2], text=[["an eagle", "a bird"], ["a car"], []])
    assert [grids.title(items, row) for row in range(3)] == ["an eagle", "a car", "class 2"]
    labelled = items_of([0, 0, 2], text=[["an eagle"], ["a car"], []])
    assert grids.title(labelled, 0) == "class 0"
