"""What the evaluation computed is read as it was saved, from the run folder, and nothing is ranked again."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.evaluation import Evaluation, evaluate_image_text, evaluate_items
from pullpush.runs.neighbours import read_neighbours, save_neighbours
from pullpush.runs.reader import Absent, Missing, RunFolder


def items_of(labels: np.ndarray, roles: str = "both", **columns: object) -> Items:
    table = pd.DataFrame({"path": [f"{row}.png" for row in range(len(labels))], "label": labels, **columns})
    return Items(table.assign(role=roles, split="test"), [str(label) for label in range(labels.max() + 1)])


def embedded(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(labels.max() + 1, 6))[labels] + rng.normal(size=(len(labels), 6))).astype(np.float32)


def same(one: Evaluation, other: Evaluation) -> bool:
    """All that does not come from clusters."""
    for name in ("per_query", "per_class", "per_category"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine is not None or theirs is not None:
            pd.testing.assert_frame_equal(mine[theirs.columns], theirs, check_index_type=False)
    for mine, theirs in zip(one.neighbours, other.neighbours, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)  # embeddings of a run are normalised once more
    whole = {name: value for name, value in one.metrics.items() if name != "nmi"}
    return whole == other.metrics and one.counted.tolist() == other.counted.tolist()


@pytest.mark.parametrize("roles", ["both", "query gallery"])
@pytest.mark.parametrize("categories", [True, False])
def test_an_evaluation_is_read_as_it_was_saved(tmp_path: Path, roles: str, categories: bool) -> None:
    labels = np.append(np.random.default_rng(1).integers(0, 12, 60), 12)  # the last has no positive
    items = items_of(labels, category=np.where(labels % 2, "odd", "even") if categories else "")
    if roles != "both":
        drawn = np.random.default_rng(2).choice(["query", "gallery", "both"], 61)
        items = items.assign(role=drawn)
    found = evaluate_items(embedded(labels), items)
    save_neighbours(tmp_path, "test-after", found)
    read = read_neighbours(tmp_path / "neighbours" / "test-after.npz", 61, 61)
    assert same(found, read)
    facts = ("left_out", "repeated", "references", "protocol")
    assert [getattr(read, name) for name in facts] == [getattr(found, name) for name in facts]
    assert read.left_out > 0


def test_nearest_positive_and_negative_are_those_of_a_loop() -> None:
    labels = np.append(np.random.default_rng(1).integers(0, 9, 50), 9)
    items = items_of(labels).assign(role=np.random.default_rng(2).choice(["query", "gallery", "both"], 51))
    x = embedded(labels)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found, roles = evaluate_items(x, items, nmi=False).per_query, items.table["role"].to_numpy()
    for row, query in found.iterrows():
        scores = x @ x[row]
        gallery = [other for other in range(51) if roles[other] != "query" and other != row]
        for name, alike in (("nearest_positive", True), ("nearest_negative", False)):
            among = [other for other in gallery if (labels[other] == labels[row]) == alike]
            assert query[name] == (max(among, key=lambda other: scores[other]) if among else -1)


def write_run(folder: Path, labels: np.ndarray, x: np.ndarray) -> Items:
    items = items_of(labels)
    items.save(folder / "items.parquet")
    (folder / "embeddings").mkdir()
    np.save(folder / "embeddings" / "test-after.npy", x)
    return items


def test_a_run_folder_ranks_nothing_that_was_saved_and_an_older_one_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.repeat(np.arange(8), 4)
    x = embedded(labels)
    items = write_run(tmp_path, labels, x)
    found = evaluate_items(x, items, nmi=False)
    assert same(RunFolder(tmp_path).evaluation("test", "after"), found)
    save_neighbours(tmp_path, "test-after", found)
    monkeypatch.setattr(
        sys.modules["pullpush.evaluation.evaluate"], "measure", lambda *given: pytest.fail("it was ranked again")
    )
    assert same(RunFolder(tmp_path).evaluation("test", "after"), found)
    with pytest.raises(Missing, match="test-before"):
        RunFolder(tmp_path).evaluation("test", "before")


def test_without_a_positive_there_is_no_evaluation(tmp_path: Path) -> None:
    labels = np.arange(5)
    write_run(tmp_path, labels, embedded(labels))
    with pytest.raises(Absent, match="none of the 5 queries has a positive"):
        RunFolder(tmp_path).evaluation("test", "after")


def test_both_ways_between_images_and_texts_are_saved(tmp_path: Path) -> None:
    labels, texts = np.repeat(np.arange(8), 2), np.repeat(np.arange(8), 3)
    x, y = embedded(labels), embedded(texts, 1)
    items = write_run(tmp_path, labels, x)
    np.save(tmp_path / "embeddings" / "test-after-text.npy", y)
    table = pd.DataFrame({"split": "test", "label": texts, "id": 0, "text": [f"no. {row}" for row in range(24)]})
    table.to_parquet(tmp_path / "texts.parquet", index=False)
    images = evaluate_items(x, items, nmi=False)
    found = evaluate_image_text(x, labels, y, texts).with_images(images)
    for saved in (False, True):  # as an older run has it, then as it was saved
        if saved:
            save_neighbours(tmp_path, "test-after", found)
        run = RunFolder(tmp_path)
        assert same(run.cross_modal("test", "after", "text_to_image"), found.text_to_image)
        assert same(run.cross_modal("test", "after", "image_to_text"), found.image_to_text)
        assert same(run.evaluation("test", "after"), images)
    names = {path.stem for path in (tmp_path / "neighbours").iterdir()}
    assert names == {"test-after", "test-after-text_to_image", "test-after-image_to_text"}


@pytest.mark.parametrize("wrong", ["cut off", "of another split", "short", "flat"])
def test_a_damaged_file_is_named(tmp_path: Path, wrong: str) -> None:
    labels = np.repeat(np.arange(8), 4)
    write_run(tmp_path, labels, embedded(labels))
    found = evaluate_items(embedded(labels), items_of(labels), nmi=False)
    if wrong == "of another split":
        longer = np.repeat(np.arange(9), 4)
        found = evaluate_items(embedded(longer), items_of(longer), nmi=False)
    near = found.neighbours
    if wrong == "short":
        found = replace(found, neighbours=near._replace(indices=near.indices[:-1]))
    if wrong == "flat":
        found = replace(found, neighbours=near._replace(indices=near.indices[:, 0]))
    save_neighbours(tmp_path, "test-after", found)
    path = tmp_path / "neighbours" / "test-after.npz"
    if wrong == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    run = RunFolder(tmp_path)
    with pytest.raises(Missing, match=r"neighbours/test-after.npz' is damaged"):
        run.evaluation("test", "after")
    assert len(run.damaged) == 1
    with pytest.raises(UserError, match="train it again"):
        RunFolder(tmp_path, "train it again").evaluation("test", "after")
