"""Glyphs of fonts that come with matplotlib, and of those that are installed: what is drawn, and what is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.ttLib import TTFont

from pullpush.data.check import inspect
from pullpush.data.items import Items
from pullpush.data.sets.glyphs import CHARACTERS, PLACES
from pullpush.data.sources import open_items
from pullpush.data.splits import split_by_class
from pullpush.errors import UserError

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fonts").mkdir()
    for name in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "cmr10"):
        shutil.copy(FONTS / f"{name}.ttf", tmp_path / "fonts")
    return tmp_path / "fonts"


def drawn(items: Items) -> dict[tuple[str, str], np.ndarray]:
    rows = enumerate(zip(items.table["label"], items.table["domain"], strict=True))
    return {(items.classes[label], domain): np.asarray(items.open(row)) for row, (label, domain) in rows}


def test_a_character_is_a_class_and_a_font_an_instance(folder: Path) -> None:
    items = open_items("glyphs", root=folder)
    assert (len(items), len(items.classes), items.notes) == (62 * 4, 62, [])
    assert (items.table["label"].value_counts() == 4).all()
    assert set(items.table["domain"]) == {"DejaVu Sans Book", "DejaVu Sans Bold", "DejaVu Serif Book", "cmr10 Regular"}
    a = items.table[items.table["label"] == items.classes.index("a")]
    assert a["text"].tolist() == [["latin small letter a"]] * 4
    assert set(a["category"]) == {"small letter"}
    images = drawn(items)
    for image in images.values():
        assert image.shape == (64, 64, 3)
        assert (image.min(), image.max()) == (0, 255)  # ink on white
    ink = {key: (255 - image.astype(float)).sum() for key, image in images.items()}
    assert ink["o", "DejaVu Sans Book"] < 0.8 * ink["O", "DejaVu Sans Book"]  # one size a font
    assert ink["a", "DejaVu Sans Book"] < 0.9 * ink["a", "DejaVu Sans Bold"]
    assert not inspect(items).across_classes
    assert split_by_class(items).table["split"].nunique() == 3


def test_a_font_as_the_class(folder: Path) -> None:
    items = open_items("glyphs", root=folder, by="font", characters="agR&", size=32)
    assert items.classes == ["DejaVu Sans Bold", "DejaVu Sans Book", "DejaVu Serif Book", "cmr10 Regular"]
    assert (len(items), set(items.table["domain"])) == (16, set("agR&"))
    assert items.open(0).size == (32, 32)
    assert items.table["text"].iloc[0] == [items.classes[items.table["label"].iloc[0]]]


def test_the_same_fonts_give_the_same_images(folder: Path, cache: Path) -> None:
    first = open_items("glyphs", root=folder, characters="digits")
    before = drawn(first)
    shutil.rmtree(cache)
    again = open_items("glyphs", root=folder, characters="0123456789")
    assert again.table["path"].tolist() == first.table["path"].tolist()
    assert {key: image.tobytes() for key, image in drawn(again).items()} == {k: i.tobytes() for k, i in before.items()}
    assert (
        open_items("glyphs", root=folder, characters="12").path(0).partition("#")[0] != again.path(0).partition("#")[0]
    )


def test_what_is_left_out_is_counted(folder: Path) -> None:
    shutil.copy(FONTS / "DejaVuSans.ttf", folder / "Same.ttf")
    shutil.copy(FONTS / "LastResortHE-Regular.ttf", folder)  # draws a box for each block of characters
    (folder / "broken.otf").write_bytes((FONTS / "cmr10.ttf").read_bytes()[:3000])
    (folder / "README.txt").write_text("no font")
    items = open_items("glyphs", root=folder, characters="digits")
    assert (len(items), items.table["domain"].nunique()) == (40, 4)
    assert items.notes == [
        "10 glyphs that their font draws for another character too are left out",
        "1 fonts of the same name as another are left out",
        "1 files that are no font with outlines are left out",
    ]


@pytest.mark.parametrize("places", [[FONTS], [Path(place).expanduser() for place in PLACES]], ids=["package", "system"])
def test_a_glyph_is_there_where_the_font_has_it(places: list[Path], tmp_path: Path) -> None:
    """Against the table of characters in the font, which the reader does not look at."""
    files = sorted(file for place in places if place.is_dir() for file in place.rglob("*.ttf"))[:30]
    if not files:
        pytest.skip("no fonts are installed")
    wanted = CHARACTERS["latin"] + CHARACTERS["greek"] + "中"
    for file in files:
        if file.name == "LastResortHE-Regular.ttf":
            continue
        has = {chr(code) for code in TTFont(file).getBestCmap() or {}} & set(wanted)
        alone = tmp_path / file.stem
        alone.mkdir()
        (alone / file.name).symlink_to(file)
        try:
            items = open_items("glyphs", root=alone, characters=wanted)
        except UserError:
            assert len(has) < 2, file
            continue
        alike = sum(int(note.split()[0]) for note in items.notes if "another character" in note)
        assert set(items.classes) <= has, file
        assert len(items.classes) + alike == len(has), file


def test_what_can_be_mended_is_said(folder: Path, tmp_path: Path) -> None:
    cases = [
        ({"root": tmp_path / "none"}, r"no fonts \(\.ttf.*none.*--root DIR"),
        ({"root": folder, "characters": "a"}, "4 glyphs of 1 class"),
        ({"root": folder, "characters": "digits+latn"}, "unknown set of characters 'latn': did you mean 'latin'"),
        ({"root": folder, "size": 4}, "size of glyphs .*from 8 to 512"),
        ({"root": folder, "by": "colour"}, "'character' or 'font'"),
        ({"root": folder, "font": "x"}, "no option 'font'"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            open_items("glyphs", **options)
