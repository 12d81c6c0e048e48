import shutil

import pandas as pd
import pytest
from PIL import Image

from pullpush.data.check import check, inspect, summary
from pullpush.data.items import Items
from pullpush.data.sources import open_items
from pullpush.data.synthetic import make_tree


@pytest.fixture
def broken(tmp_path):
    """32 images, of which five are broken and some are odd."""
    items = open_items(make_tree("folder", tmp_path / "folder"))
    path = items.path
    with open(path(1), "wb") as file:
        file.write(b"this is a text file")
    with open(path(2), "rb+") as file:
        file.truncate(300)
    open(path(3), "wb").close()
    shutil.move(path(4), tmp_path / "away.png")
    Image.new("RGB", (1, 1)).save(path(5))
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "blue")]
    frames[0].save(path(6), format="GIF", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (20, 20), (3, 2, 1, 0)).save(path(7), format="JPEG")
    shutil.copy(path(8), path(9))  # same class
    shutil.copy(path(8), path(20))  # another class
    return items


def test_each_broken_image_is_listed_with_its_reason(broken):
    bad = check(broken)
    assert [item.row for item in bad] == [1, 2, 3, 4]
    reasons = [item.reason for item in bad]
    assert reasons[0] == "not an image"
    assert "truncated" in reasons[1]
    assert reasons[2:] == ["the file is empty (0 bytes)", "the file is missing"]
    assert all(item.path == broken.path(item.row) for item in bad)


def test_unusual_images_are_found(broken):
    found = inspect(broken)
    assert found.tiny == [5]
    assert found.animated == [6]
    assert found.kinds["CMYK"] == 1
    assert found.duplicates == [[8, 9, 20]]
    assert found.across_classes == [[8, 9, 20]]


def test_the_same_file_in_two_boxes_is_no_duplicate(tmp_path):
    Image.radial_gradient("L").save(tmp_path / "a.png")
    table = pd.DataFrame({"path": [str(tmp_path / "a.png")] * 3, "label": [0, 1, 1]})
    boxes = {"x_1": [0, 9, 300], "y_1": [0, 9, 300], "x_2": [50, 80, 310], "y_2": [50, 80, 310]}
    found = inspect(Items(table.assign(**boxes), ["a", "b"]))
    assert found.duplicates == []
    assert [(bad.row, "outside" in bad.reason) for bad in found.bad] == [(2, True)]


def test_summary_says_the_problems_first(broken):
    items = broken.select([*range(12), 20, 24, 28])
    result = summary(items, inspect(items))
    text = "\n".join(result.problems)
    assert result.problems[0].startswith("cannot be read: " + items.path(1))
    for part in (
        "the same image in 3 items of different classes",
        "smaller than 8 pixels",
        "are animated",
        "1 CMYK",
        "3 of 6 classes have one item",
    ):
        assert part in text
    assert result.splits["items"].tolist() == [15]
    assert result.sizes.set_index("items a class")["classes"].to_dict() == {1: 3, 4: 3}
    assert len(result.examples) == 5


def test_summary_of_good_data_is_quiet(tmp_path):
    items = open_items("inshop", root=make_tree("inshop", tmp_path / "inshop"))
    result = summary(items, inspect(items))
    assert result.problems == []
    assert result.splits.set_index("split").loc["test"].to_dict() == {
        "items": 16,
        "classes": 4,
        "query": 8,
        "gallery": 8,
    }
    assert summary(items.select([])).problems == ["only 0 class: nothing can be learned without a second one"]


def test_imbalance_and_one_class(fake_items):
    lines = summary(fake_items([30, 3])).problems
    assert "imbalance: the largest class (class 000) has 30 items, the smallest (class 001) has 3" in lines
    assert "only 1 class" in summary(fake_items([4])).problems[0]
    assert (
        "1 classes are in two splits"
        in summary(fake_items([2, 2], split=["train", "test", "test", "test"])).problems[0]
    )


def test_examples_show_texts_where_there_are_some(fake_items):
    assert list(summary(fake_items([2, 2])).examples) == ["class", "path"]
    told = fake_items([2, 2], text=[[], ["a red bird", "a bird"], [], []])
    assert list(summary(told).examples["text"]) == ["", "a red bird; a bird", "", ""]


def test_many_sizes_of_classes_are_grouped(fake_items):
    sizes = summary(fake_items(list(range(1, 26)))).sizes
    assert dict(sizes.to_numpy()) == {"1": 1, "2 to 3": 2, "4 to 7": 4, "8 to 15": 8, "16 to 31": 10}
