"""Descriptions beside the images: caption files, captions.csv, manifests without labels."""

import os
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pullpush.data.sources import open_items
from pullpush.errors import UserError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def texts_of(source: Path) -> dict[str, list[str]]:
    items = open_items(source)
    return {Path(path).name: list(texts) for path, texts in zip(items.table["path"], items.table["text"], strict=True)}


def test_a_text_file_beside_each_image_has_a_description_a_line(pictures: Path) -> None:
    (pictures / "a.txt").write_text("a cat\n\n  eine Katze \n", encoding="utf-8")
    (pictures / "b.txt").write_text("a dog", encoding="utf-8")
    assert texts_of(pictures) == {"a.png": ["a cat", "eine Katze"], "b.jpg": ["a dog"], "c.png": []}
    assert open_items(pictures).notes == [
        "1 images have no text",
        "no class folders: each image is a class of its own",
    ]


def test_the_mark_of_windows_editors_is_no_part_of_a_text(pictures: Path) -> None:
    (pictures / "a.txt").write_text("a cat\n", encoding="utf-8-sig")
    assert texts_of(pictures)["a.png"] == ["a cat"]


def test_an_empty_text_joins_no_classes(pictures: Path) -> None:
    """A separator too many, or a missing value in a list, is no text that two images share."""
    paths = ["a.png", "b.jpg", "c.png"]
    pd.DataFrame({"path": paths, "text": ["a cat|", "a dog| |", "a cow"]}).to_csv(pictures / "list.csv", index=False)
    frame = pd.DataFrame({"path": paths, "text": [["a cat", None], ["a dog", None], ["a cow", ""]]})
    frame.to_parquet(pictures / "list.parquet")
    for name in ("list.csv", "list.parquet"):
        assert texts_of(pictures / name) == {"a.png": ["a cat"], "b.jpg": ["a dog"], "c.png": ["a cow"]}
        assert len(open_items(pictures / name).classes) == 3


def test_captions_csv_may_name_an_image_several_times(pictures: Path) -> None:
    (pictures / "captions.csv").write_text('path,text\na.png,a cat|feline\na.png,"cat, sitting"\nb.jpg,a dog\n')
    assert texts_of(pictures) == {"a.png": ["a cat", "feline", "cat, sitting"], "b.jpg": ["a dog"], "c.png": []}


def test_class_folders_keep_their_classes(pictures: Path) -> None:
    for name, folder in (("a.png", "cats"), ("b.jpg", "dogs"), ("c.png", "dogs")):
        (pictures / folder).mkdir(exist_ok=True)
        (pictures / name).rename(pictures / folder / name)
    (pictures / "captions.csv").write_text("path,text\ncats/a.png,a cat\ndogs/b.jpg,a dog\ndogs/c.png,a dog\n")
    items = open_items(pictures)
    assert items.classes == ["cats", "dogs"]
    assert [list(texts) for texts in items.table["text"]] == [["a cat"], ["a dog"], ["a dog"]]


def test_images_and_captions_in_folders_of_their_own(pictures: Path) -> None:
    (pictures / "images").mkdir()
    for name in ("a.png", "b.jpg", "c.png"):
        (pictures / name).rename(pictures / "images" / name)
    (pictures / "captions.csv").write_text("path,text\nimages/a.png,one\nimages/b.jpg,two\nimages/c.png,three\n")
    assert texts_of(pictures) == {"a.png": ["one"], "b.jpg": ["two"], "c.png": ["three"]}


def test_captions_csv_that_describes_nothing_is_refused(pictures: Path) -> None:
    (pictures / "captions.csv").write_text("path,text\nelsewhere/a.png,a cat\n")
    with pytest.raises(UserError, match=r"captions\.csv describes no image.*relative"):
        open_items(pictures)
    (pictures / "captions.csv").write_text("file,text\na.png,a cat\n")
    with pytest.raises(UserError, match="no column 'path'; its columns: file, text"):
        open_items(pictures)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_manifest_without_labels_has_a_class_a_description(pictures: Path, suffix: str) -> None:
    frame = pd.DataFrame({"path": ["b.jpg", "a.png", "c.png"], "text": ["a dog", "a cat|feline", "a dog"]})
    file = pictures / f"items{suffix}"
    frame.to_csv(file, index=False) if suffix == ".csv" else frame.to_parquet(file)
    assert texts_of(file) == {"a.png": ["a cat", "feline"], "b.jpg": ["a dog"], "c.png": ["a dog"]}
    items = open_items(file)
    assert any("but 1 that repeat the text of another are of its class" in note for note in items.notes)
    assert items.labels[0] == items.labels[2] != items.labels[1]
    frame.drop(columns="text").to_csv(file.with_suffix(".csv"), index=False)
    with pytest.raises(UserError, match="no column 'label'"):
        open_items(file.with_suffix(".csv"))


@pytest.mark.parametrize("flat", [True, False])
def test_names_that_are_not_unicode(tmp_path, flat):
    for number, name in enumerate((b"caf\xe9", b"th\xe9", b"eau")):
        folder = tmp_path if flat else tmp_path / f"class_{number % 2}"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / f"{os.fsdecode(name)}.png")
        (folder / f"{os.fsdecode(name)}.txt").write_text(f"drink {number}")
    items = open_items(tmp_path)
    assert (len(items), len(items.classes)) == (3, 3 if flat else 2)
    assert sorted(items.open(row).getpixel((0, 0))[0] for row in range(3)) == [0, 1, 2]
