"""The door: names, folders, manifests, and what it says to wrong ones."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pullpush.data.items import BOX
from pullpush.data.sets.emoji import VENDORS
from pullpush.data.sources import compare_with_published, open_images, open_items
from pullpush.data.synthetic import make_tree
from pullpush.errors import UserError
from pullpush.images.files import idx_bytes


def picture(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)


def test_emoji_has_the_announced_size():
    items = open_items("emoji")
    assert (len(items), len(items.classes)) == (12428, 1853)
    assert not compare_with_published(items)["missing"].any()
    assert set(items.table["domain"]) == set(VENDORS)
    per_class = items.table.groupby("label")["domain"]
    assert (per_class.nunique() == per_class.size()).all()  # one drawing a vendor
    assert items.table.groupby("label")["text"].apply(lambda texts: len({tuple(t) for t in texts}) == 1).all()
    assert items.open(0).mode == "RGB"


def test_emoji_names():
    items = open_items("emoji")
    rows = items.table[items.table["label"] == items.classes.index("pizza")]
    assert rows["text"].iloc[0] == ["pizza"]
    assert not any(":" in name[:1] or "_" in name for texts in items.table["text"] for name in texts)
    german = open_items("emoji", language="de")
    assert german.classes == items.classes
    assert german.table.loc[rows.index[0], "text"] == ["pizza"]
    assert german.table["text"].iloc[0] != items.table["text"].iloc[0]


def test_emoji_options():
    tones = open_items("emoji", skin_tones=True)
    assert len(tones) > 20000
    assert any("dark skin tone" in name for name in tones.classes)
    two = open_items("emoji", vendors="apple, Google", held_out=["Google"])
    assert set(two.table["domain"]) == {"Apple", "Google"}
    assert (two.table["held_out"] == (two.table["domain"] == "Google")).all()
    for options, message in (
        ({"vendors": "Appel"}, "unknown emoji vendor 'Appel'"),
        ({"language": "tlh"}, "'tlh' are not known"),
        ({"vendors": "Apple", "held_out": "Meta"}, "Meta is not among"),
    ):
        with pytest.raises(UserError, match=message):
            open_items("emoji", **options)


def test_missing_package_names_the_cure(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'pullpush\[demo\]'"):
        open_items("emoji")


def test_folder_of_nested_classes(tmp_path):
    for path in ("shoes/boots/1.png", "shoes/boots/2.JPG", "shoes/3.png", "hats/4.png"):
        picture(tmp_path / path)
    picture(tmp_path / "loose.png")
    picture(tmp_path / ".hidden" / "5.png")
    (tmp_path / "hats" / "readme.txt").write_text("no image")
    items = open_items(tmp_path)
    assert items.classes == ["hats", "shoes", "shoes/boots"]
    assert len(items) == 4
    assert set(items.table["split"]) == {""}
    assert any("1 images lie in no class folder" in note for note in items.notes)
    assert any("1 .txt" in note for note in items.notes)


def test_folder_with_given_splits(tmp_path):
    for path in ("train/a/1.png", "train/b/1.png", "val/c/1.png", "test/d/1.png"):
        picture(tmp_path / path)
    items = open_items(tmp_path)
    assert items.classes == ["a", "b", "c", "d"]
    assert items.table["split"].tolist() == ["test", "train", "train", "validation"]
    assert set(open_items(tmp_path, given_splits=False).table["split"]) == {""}


def test_linked_folders_are_read_once(tmp_path):
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "b" / "1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(open_items(tmp_path)) == 2


def test_wrong_folders(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        open_items(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("no image")
    with pytest.raises(UserError, match=r"holds no images \(1 .txt\)"):
        open_items(tmp_path)
    picture(tmp_path / "a" / "1.png")
    with pytest.raises(UserError, match="the one class 'a'"):
        open_items(tmp_path)
    picture(tmp_path / "only" / "1.png")
    with pytest.raises(UserError, match="1 images beside each other"):
        open_items(tmp_path / "only")


@pytest.mark.parametrize(("name", "near"), [("emojy", "emoji"), ("fashion_mnst", "fashion-mnist"), ("SOPP", "sop")])
def test_misspelt_names(name, near):
    with pytest.raises(UserError, match=f"did you mean '{near}'"):
        open_items(name)


def test_unknown_options(tmp_path):
    with pytest.raises(UserError, match="no option 'vendor'; did you mean 'vendors'"):
        open_items("emoji", vendor="Apple")
    with pytest.raises(UserError, match="no option root"):
        open_items("emoji", root=tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(UserError, match=r"notes.txt is a file; data are"):
        open_items(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="no data set, folder or manifest"):
        open_items(tmp_path / "absent")


def write(tmp_path, rows, name="list.csv"):
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / name) if name.endswith("parquet") else frame.to_csv(tmp_path / name, index=False)
    return tmp_path / name


@pytest.fixture
def rows(tmp_path):
    for name in "abcd":
        picture(tmp_path / f"{name}.png")
    return {"label": [1, 1, 2, 2], "path": ["a.png", "b.png", "c.png", "d.png"]}


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
@pytest.mark.filterwarnings("error")
def test_manifest_columns(tmp_path, rows, name):
    rows |= {
        "split": ["train", "train", "validation", "validation"],
        "is_query": [None, None, True, False],
        "is_gallery": [None, None, True, True],
        "category": ["k", "k", "l", "l"],
        "text": ["one | two", "three", "four", "five"],
        "sequence": [0, 0, 0, 0],
        **{"x_1": [0, 0, 1, 1], "y_1": [0, 0, 1, 1], "x_2": [4, 4, 3, 3], "y_2": [4, 4, 3, 3]},
    }
    items = open_items(write(tmp_path, rows, name))
    assert items.classes == ["1", "2"]
    assert items.table["split"].tolist() == ["train", "train", "validation", "validation"]
    assert items.table["role"].tolist() == ["both", "both", "both", "gallery"]
    assert items.table["text"].tolist() == [["one", "two"], ["three"], ["four"], ["five"]]
    assert items.open(3).size == (2, 2)
    assert items.notes == ["columns not used: sequence"]


def test_manifest_paths_are_relative_to_root(tmp_path, rows):
    (tmp_path / "lists").mkdir()
    file = write(tmp_path, rows, "lists/list.csv")
    with pytest.raises(UserError, match=r"4 of 4 images listed .* do not exist"):
        open_items(file)
    assert len(open_items(file, root=tmp_path)) == 4


def test_a_manifest_of_images_in_an_archive(tmp_path, rows):
    (tmp_path / "images-ubyte").write_bytes(idx_bytes(np.full((4, 2, 2), 9, np.uint8)))
    rows["path"] = [f"images-ubyte#{row}" for row in range(4)]
    assert open_items(write(tmp_path, rows)).open(3).getpixel((1, 1)) == (9, 9, 9)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, rows, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lists").mkdir()
    write(tmp_path, rows, "lists/list.csv")
    for read in (open_items, open_images):
        assert read("~/lists/list.csv", root="~").path(0) == str(tmp_path / "a.png")


def test_manifest_missing_files(tmp_path, rows):
    (tmp_path / "c.png").unlink()
    file = write(tmp_path, rows)
    with pytest.raises(UserError, match=r"1 of 4 images .*c.png.*--data.missing skip"):
        open_items(file)
    items = open_items(file, missing="skip")
    assert len(items) == 3
    assert "1 listed images do not exist" in items.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None, "labels": [1, 1, 2, 2]}, "no column 'label'; did you mean 'labels'"),
        ({"path": None, "file": ["a.png"] * 4}, "no column 'path'"),
        ({"label": [1, 1, 1, 1]}, "of 1 class"),
        ({"label": [1, None, 2, 2]}, "1 rows have no label, the first is row 2"),
        ({"split": ["train", "dev", "", ""]}, "split 'dev' is unknown"),
        ({"is_query": ["maybe"] * 4}, "is_query must be True, False"),
        ({"x_1": [1] * 4}, "a box needs the columns"),
        (dict.fromkeys(BOX, (1, None, "left", 4)), "1 rows have a box that is not four numbers, the first is row 3"),
        (dict.fromkeys(BOX, (1, None, 3, np.inf)), "1 rows have a box that is not four numbers, the first is row 4"),
        ({**dict.fromkeys(BOX, [1] * 4), "x_2": [4, 4, 4, None]}, "1 rows have a box .* is row 4; .*all four empty"),
    ],
)
def test_wrong_manifests(tmp_path, rows, change, message):
    rows = {k: v for k, v in (rows | change).items() if v is not None}
    with pytest.raises(UserError, match=message):
        open_items(write(tmp_path, rows))


def test_unreadable_manifests(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_items(tmp_path / "absent.csv")
    (tmp_path / "empty.csv").write_text("label,path\n")
    with pytest.raises(UserError, match="lists no images"):
        open_items(tmp_path / "empty.csv")
    (tmp_path / "no.parquet").write_text("no parquet")
    with pytest.raises(UserError, match=r"no\.parquet.* is damaged.*; give a Parquet file"):
        open_items(tmp_path / "no.parquet")


def test_made_manifest_and_folder_open(tmp_path):
    assert len(open_items(make_tree("folder", tmp_path / "folder"))) == 32
    items = open_items(make_tree("manifest", tmp_path / "manifest"))
    assert set(items.table["role"]) == {"both", "query", "gallery"}
