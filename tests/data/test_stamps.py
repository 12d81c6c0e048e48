"""Stamps in a small tree as Tux Paint has it, and those that are installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pullpush.data.sets.stamps import PLACES
from pullpush.data.sources import open_items
from pullpush.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "animals/birds/owl": "An owl.\nde.utf8=Eine Eule.\npt_BR.utf8=Uma coruja.\nfr.utf8=\nsv.utf8=An owl.\n",
        "animals/birds/small/wren": "A wren.\nde.utf8=Ein Zaunkönig = ein Vogel.",
        "animals/cat": None,
        "town/house": "A house.",
    }
    for number, (name, text) in enumerate(files.items()):
        file = tmp_path / "stamps" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (9 + number, 9), (200, 0, 0, 128)).save(file)
        if text is not None:
            file.with_suffix(".txt").write_text(text, encoding="utf-8")
    for spare in ("animals/cat_mirror.png", "town/house_mirror_flip.png", "town/tree.svg", "town/house.ogg"):
        (tmp_path / "stamps" / spare).write_bytes(b"")
    return tmp_path / "stamps"


def test_a_folder_is_a_class(folder: Path) -> None:
    items = open_items("stamps", root=folder)
    table = items.table.assign(file=items.table["path"].map(lambda path: Path(path).stem)).set_index("file")
    assert {file: items.classes[label] for file, label in table["label"].items()} == {
        **{"owl": "animals/birds", "wren": "animals/birds"},
        **{"cat": "animals", "house": "town"},
    }
    assert table["category"].to_dict() == {"owl": "animals", "wren": "animals", "cat": "animals", "house": "town"}
    assert table["text"].to_dict() == {"owl": ["An owl."], "wren": ["A wren."], "cat": [], "house": ["A house."]}
    assert items.notes == [
        "2 copies that are mirrored or upside down are left out",
        "1 drawings in SVG are left out",
        "1 images have no text",
    ]
    assert items.open(0).getpixel((0, 0)) == (227, 127, 127)  # on white


@pytest.mark.parametrize(
    ("language", "owl", "house"),
    [
        ("de", ["Eine Eule."], ["A house."]),
        ("pt_BR, de", ["Uma coruja.", "Eine Eule."], ["A house."]),
        ("sv,en", ["An owl."], ["A house."]),
        ("all", ["An owl.", "Eine Eule.", "Uma coruja."], ["A house."]),
    ],
)
def test_texts_in_other_languages(folder: Path, language: str, owl: list[str], house: list[str]) -> None:
    table = open_items("stamps", root=folder, language=language).table
    texts = {Path(path).stem: text for path, text in zip(table["path"], table["text"], strict=True)}
    assert (sorted(texts["owl"]), texts["house"], texts["cat"]) == (sorted(owl), house, [])
    if language != "all":
        assert texts["owl"] == owl


def test_what_can_be_mended_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = [
        ({"root": tmp_path / "none"}, "no folder .*none; install the stamps of Tux Paint .*--root DIR"),
        ({"root": tmp_path / "empty"}, "empty holds no stamps .*--root DIR"),
        (
            {"root": folder, "language": "fr"},
            "no stamp has a text in 'fr'; --data.language takes de, en, pt_BR, sv or all",
        ),
        ({"root": folder, "size": 3}, "no option 'size'"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            open_items("stamps", **options)


def test_the_stamps_that_are_installed() -> None:
    if not any(Path(place).expanduser().is_dir() for place in PLACES):
        pytest.skip("no stamps are installed: apt install tuxpaint-stamps-default")
    items = open_items("stamps", language="en,de,ja")
    assert len(items) > 500
    assert len(items.classes) > 50
    assert items.table["text"].map(len).mean() > 2
    assert items.table["category"].nunique() > 10
    assert items.open(0).mode == "RGB"
