"""Lists as spreadsheets write them, and descriptions that several items share."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pullpush.data.check import inspect, summary
from pullpush.data.sources import open_images, open_items
from pullpush.errors import UserError

ROWS = [("a.png", "Käse", "ein Käse"), ("b.png", "Käse", "noch einer"), ("c.png", "NA", "nichts; gar nichts")]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for place, name in enumerate("abc"):
        Image.new("RGB", (10 + 10 * place, 10), (40 * place, 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


def listed(images: Path, separator: str, encoding: str, name: str = "list.csv") -> Path:
    lines = [("path", "label", "text"), *ROWS]
    quoted = [[f'"{word}"' if separator in word else word for word in line] for line in lines]
    file = images / name
    file.write_bytes("".join(f"{separator.join(line)}\r\n" for line in quoted).encode(encoding))
    return file


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
def test_what_spreadsheets_write_is_read(images: Path, separator: str, encoding: str) -> None:
    items = open_items(listed(images, separator, encoding))
    assert items.classes == ["Käse", "NA"]
    assert items.table["text"].tolist() == [["ein Käse"], ["noch einer"], ["nichts; gar nichts"]]
    assert any("cp1252" in note for note in items.notes) == (encoding == "cp1252")
    assert any("separated by" in note for note in items.notes) == (separator != ",")


def test_captions_csv_too_and_a_tsv_with_commas(images: Path) -> None:
    listed(images, ";", "cp1252", "captions.csv")
    items = open_items(images)
    assert items.table["text"].tolist() == [["ein Käse"], ["noch einer"], ["nichts; gar nichts"]]
    assert open_items(listed(images, ",", "utf-8", "list.tsv")).classes == ["Käse", "NA"]


def test_no_list_at_all_is_one_sentence(images: Path) -> None:
    file = images / "photo.csv"
    file.write_bytes((images / "a.png").read_bytes())
    with pytest.raises(UserError, match=r"CSV|no column"):
        open_items(file)


def test_where_no_labels_are_given_equal_texts_are_positives(images: Path) -> None:
    texts = ["A frog.", "a  FROG.", "a toad|a frog."]
    pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "text": texts}).to_csv(images / "list.csv", index=False)
    with pytest.raises(UserError, match="of 1 class"):
        open_items(images / "list.csv")
    pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "text": [*texts[:2], "a toad"]}).to_csv(
        images / "captions.csv", index=False
    )
    items = open_items(images)
    assert items.labels.tolist() == [0, 0, 1]
    assert summary(items).problems == [
        "1 of 2 classes have one item, so no positive but its text (--task image-text) (c.png)"
    ]


def test_equal_texts_of_several_classes_are_counted_and_warned_of(images: Path) -> None:
    frame = pd.DataFrame(
        {"path": ["a.png", "b.png", "c.png"], "label": list("xyz"), "text": ["A frog.", "a frog.", "c"]}
    )
    frame.to_csv(images / "list.csv", index=False)
    problems = summary(open_items(images / "list.csv")).problems
    assert any("1 of 2 texts belong to items of several classes, such as 'A frog.'" in line for line in problems)


def test_what_the_images_are_and_what_was_left_out(images: Path) -> None:
    for name, kind in (("d.jpg", "JPEG"), ("e.webp", "WEBP")):
        Image.new("RGB", (30, 60)).save(images / name, kind)
    for name in ("f.psd", "g.psd", "h.raw"):
        (images / name).write_bytes(b"8BPS")
    (images / "captions.csv").write_text("path,text\na.png,one\nb.png,two\n")
    items = open_items(images)
    found = summary(items, inspect(items))
    assert found.formats.values.tolist() == [["PNG", 3], ["JPEG", 1], ["WEBP", 1]]
    assert found.pixels.set_index("pixels").loc["width"].tolist() == [10, 30, 30]
    assert found.pixels.set_index("pixels").loc["width / height"].tolist() == [0.5, 1, 3]
    assert any("3 files are left out (2 .psd, 1 .raw); images are JPEG, PNG" in note for note in found.notes)


def test_images_need_no_classes_where_none_are_used(images: Path) -> None:
    assert [len(open_images(source)) for source in (images, images / "a.png")] == [3, 1]
    (images / "list.csv").write_text("path\na.png\nb.png\n")
    assert len(open_images(images / "list.csv")) == 2
    with pytest.raises(UserError, match="no column 'label'"):
        open_items(images / "list.csv")


def test_a_column_that_is_said_not_to_be_used_is_not_used(images: Path) -> None:
    (images / "list.csv").write_text("path,label,role,vector\na.png,x,cook,1\nb.png,y,baker,2\n")
    items = open_items(images / "list.csv")
    assert items.notes == ["columns not used: role, vector"]
    assert set(items.table["role"]) == {"both"}
