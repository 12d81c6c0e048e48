import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pullpush.data import items as module
from pullpush.data.items import Items
from pullpush.data.labels import rows_by_label
from pullpush.data.splits import split_by_class
from pullpush.errors import UserError


@pytest.fixture
def items(tmp_path):
    for name, colour in (("a", "red"), ("b", "green"), ("c", "blue")):
        Image.new("RGB", (8, 6), colour).save(tmp_path / f"{name}.png")
    paths = [tmp_path / f"{name}.png" for name in "cab"]
    return Items.build(
        "three",
        paths,
        ["y", "x", "y"],
        ["a note"],
        text=[["one", "two"], [], "three"],
        split=["train", "test", "train"],
    )


def test_defaults_and_access(items):
    assert items.classes == ["x", "y"]
    assert items.labels.tolist() == [1, 0, 1]
    assert items.labels.dtype == items.ids.dtype == torch.int64
    assert set(items.table["role"]) == {"both"}
    assert items.table["text"].tolist() == [["one", "two"], [], ["three"]]
    assert items.open(0).getpixel((0, 0)) == (0, 0, 255)


def test_texts_that_are_missing_or_empty_are_none(items):
    for text in ([["one", "", None, " "], None, pd.NA], [("one",), np.nan, ""], [np.array(["one"]), [], [np.nan]]):
        assert items.assign(text=text).table["text"].tolist() == [["one"], [], []]
    assert items.assign(text=[7, "7", ["7"]]).table["text"].tolist() == [["7"]] * 3


def test_select_keeps_ids_and_labels(items):
    train = items.split("train")
    assert train.ids.tolist() == [0, 2]
    assert train.labels.tolist() == [1, 1]
    assert train.classes == items.classes
    assert items.select([2, 0]).ids.tolist() == [2, 0]
    assert items.select(torch.tensor([False, True, False])).ids.tolist() == [1]
    assert len(items.split("validation")) == len(items.select([])) == 0
    with pytest.raises(IndexError, match="wrong length"):
        items.select([True, False])
    with pytest.raises(UserError, match="no split"):
        items.split("tset")


def test_round_trip_through_parquet_and_pickle(items, tmp_path):
    items.save(tmp_path / "items.parquet")
    for again in (Items.load(tmp_path / "items.parquet"), pickle.loads(pickle.dumps(items))):
        assert (again.name, again.classes, again.notes) == (items.name, items.classes, items.notes)
        assert again.table["text"].tolist() == items.table["text"].tolist()
        rest = [c for c in items.table.columns if c != "text"]
        pd.testing.assert_frame_equal(again.table[rest], items.table[rest])
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="no item table"):
        Items.load(tmp_path / "other.parquet")


def test_box_is_cropped(items):
    boxed = items.assign(x_1=[2, np.nan, 90], y_1=[1, np.nan, 90], x_2=[5, np.nan, 95], y_2=[6, np.nan, 95])
    assert boxed.open(0).size == (3, 5)
    assert boxed.open(1).size == (8, 6)
    with pytest.raises(UserError, match="outside"):
        boxed.open(2)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1, 1, 2]}, "id 1 stands for two"),
        ({"split": ["train", "tst", ""]}, "'tst' is unknown"),
        ({"role": ["both", "queries", "both"]}, "'queries' is unknown"),
        ({"label": [0, 1, 2]}, "labels run from 0 to 2"),
        ({"label": [0, 1, np.nan]}, "the column 'label' must hold a whole number"),
        ({"label": [0, 1, 0.5]}, "the column 'label' must hold a whole number"),
        ({"label": ["x", "y", "x"]}, "the column 'label' must .*`Items.build` numbers the names"),
        ({"id": [0, 1, None]}, "the column 'id' must hold a whole number"),
    ],
)
def test_wrong_columns(items, columns, message):
    with pytest.raises(UserError, match=message):
        items.assign(**columns)


def test_a_selection_is_not_checked_again(fake_items, monkeypatch):
    """Splitting a large table costs its rows once, not all of its texts again."""
    items = split_by_class(fake_items([4] * 12), seed=0)
    monkeypatch.setattr(module, "_complete", None)
    test = items.split("test")
    assert test.table.index.tolist() == list(range(len(test)))
    assert set(test.table["id"]) == set(items.table["id"][items.table["split"] == "test"])
    test.notes.append("own")
    assert items.notes == []


def test_rows_by_label_are_those_of_a_search_for_each():
    labels = np.random.default_rng(0).integers(-3, 9, 200)
    found = rows_by_label(labels)
    assert list(found) == np.unique(labels).tolist()
    for label, rows in found.items():
        assert rows.tolist() == np.flatnonzero(labels == label).tolist()
    assert rows_by_label(labels[:0]) == {}
