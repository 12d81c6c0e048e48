"""Icons of a small package in the layout of `@iconify/json`, and of the real one where it is installed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pullpush.data.check import inspect
from pullpush.data.items import Items
from pullpush.data.sets import iconify
from pullpush.data.sources import open_items
from pullpush.data.splits import split_by_class
from pullpush.errors import UserError
from pullpush.files.cache import cache_folder

REAL = cache_folder("iconify")
SETS = ("ant", "bee", "cat", "dog")

pytestmark = pytest.mark.usefixtures("cache")


def box(x: float, y: float = 2, colour: str = "currentColor") -> dict[str, Any]:
    return {"body": f'<path fill="{colour}" d="M{x} {y}h8v8h-8z"/>'}


def icon_set(prefix: str, icons: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"prefix": prefix, "icons": icons, "width": 24, "height": 24, **more}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """`home` and `big star` in four sets; `rare` in two."""
    sets = {
        name: icon_set(
            name, {"home": box(i), "big-star": box(i, 12, "#d02020")} | ({"rare": box(i, 7)} if i < 2 else {})
        )
        for i, name in enumerate(SETS)
    }
    sets["dog"]["categories"] = {"Buildings": ["home"], "Places": ["home"]}
    return write(tmp_path / "package", sets)


def write(folder: Path, sets: dict[str, Any], licences: dict[str, str] | None = None) -> Path:
    (folder / "json").mkdir(parents=True, exist_ok=True)
    listed = {name: {"license": {"spdx": (licences or {}).get(name, "MIT")}} for name in sets}
    (folder / "collections.json").write_text(json.dumps(listed))
    (folder / "package.json").write_text('{"version": "1.0"}')
    for name, content in sets.items():
        (folder / "json" / f"{name}.json").write_text(json.dumps(content))
    return folder


def read(package: Path) -> dict[str, Any]:
    return {file.stem: json.loads(file.read_text()) for file in (package / "json").glob("*.json")}


def drawn(items: Items) -> dict[tuple[str, str], np.ndarray]:
    rows = enumerate(zip(items.table["label"], items.table["domain"], strict=True))
    return {(items.classes[label], domain): np.asarray(items.open(row)) for row, (label, domain) in rows}


def test_a_name_is_a_class_and_a_set_an_instance(package: Path) -> None:
    items = open_items("iconify", root=package, size=48)
    assert (items.classes, items.notes) == (["big star", "home"], [])
    images = drawn(items)
    assert set(images) == {(name, prefix) for name in items.classes for prefix in SETS}
    for (name, prefix), image in images.items():
        x, y = 2 * SETS.index(prefix), 24 if name == "big star" else 4  # 48 pixels show 24 units
        expected = np.full((48, 48, 3), 255)
        expected[y : y + 16, x : x + 16] = (208, 32, 32) if name == "big star" else 0
        assert (image == expected).all(), (name, prefix)
    assert {tuple(text) for text in items.table["text"]} == {("big star",), ("home",)}
    category = items.table.set_index(["label", "domain"])["category"]
    assert (category[1, "dog"], category[1, "ant"], category[0, "dog"]) == ("Buildings", "", "")
    assert set(open_items("iconify", root=package, sets=2).classes) == {"big star", "home", "rare"}
    assert split_by_class(open_items("iconify", root=package, sets=2)).table["split"].nunique() > 1


def test_names_are_taken_without_the_styles_that_their_set_declares(package: Path) -> None:
    sets = read(package)
    sets["ant"] |= {"suffixes": {"": "Regular", "filled": "Filled", "24-filled": "Filled 24px"}}
    sets["ant"]["icons"] = {"home-24-filled": box(11), "home-filled": box(2, 1), "star-big": box(3)}
    sets["bee"] |= {"prefixes": {"sharp": "Sharp"}}
    sets["bee"]["icons"] = {"sharp-home": box(14), "sharp-big-star": box(5), "sharply": box(6)}
    sets["cat"]["icons"]["home-filled"] = box(7)  # this set declares nothing
    items = open_items("iconify", root=write(package, sets), sets=3)
    images = drawn(items)
    assert set(images) == {("home", prefix) for prefix in SETS} | {("big star", name) for name in SETS[1:]}
    other = drawn(open_items("iconify", root=package, sets=3, size=24))
    assert (other["home", "ant"][1:9, 2:10] == 0).all()  # the plainest form: home-filled


def test_what_is_left_out_is_counted(package: Path) -> None:
    sets = read(package)
    sets["cat"]["icons"]["home"] = sets["ant"]["icons"]["home"]  # a copy
    sets["bee"]["icons"]["big-star"] = sets["bee"]["icons"]["home"]  # one drawing of two names
    sets["dog"]["icons"]["home"] = box(3, 2, "#ffffff")
    for number, name in enumerate(("eel", "fox")):
        sets[name] = icon_set(name, {"home": box(9 + number), "big-star": box(9 + number, 12)})
    sets["fox"]["icons"]["big-star"]["body"] = '<path d="M0 0h9v9z"><animate attributeName="d"/></path>'
    sets["gnu"] = icon_set("gnu", {"home": {"body": "<path"}})
    sets["hen"] = icon_set("hen", {"home": box(14)})
    sets["old"] = icon_set("old", {"home": box(15)})
    listed = write(package, sets, {"hen": "CC-BY-NC-4.0"}) / "collections.json"
    listed.write_text(json.dumps({k: v for k, v in json.loads(listed.read_text()).items() if k != "old"}))
    items = open_items("iconify", root=package, sets=4)
    assert set(drawn(items)) == {("home", n) for n in ("ant", "eel", "fox")} | {
        ("big star", n) for n in ("ant", "cat", "dog", "eel")
    }
    assert not inspect(items).duplicates
    assert sorted(items.notes) == [
        "1 animations are left out",
        "1 drawings that look the same as another of their class are left out",
        "1 icons that are blank on white are left out",
        "1 icons that cannot be drawn are left out",
        "1 sets that the package no longer lists are left out",
        "1 sets whose licence forbids commercial use are left out",
        "2 drawings that look the same as one of another class are left out",
    ]


def test_fewer_classes_are_always_the_same_ones(package: Path) -> None:
    sets = read(package)
    for number, content in enumerate(sets.values()):
        content["icons"] = {f"thing-{i}": box(number, i) for i in range(16)}
    root = write(package, sets)
    every = open_items("iconify", root=root)
    few, more = (open_items("iconify", root=root, classes=classes) for classes in (4, 8))
    assert (len(few.classes), len(more.classes), len(few)) == (4, 8, 16)
    assert set(few.classes) < set(more.classes) < set(every.classes)
    assert few.classes != sorted(every.classes)[:4]
    for key, image in drawn(few).items():
        assert (image == drawn(every)[key]).all()
    assert few.notes == ["these are 4 of 16 classes"]


def test_icons_are_drawn_once_and_the_cache_may_move(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = drawn(open_items("iconify", root=package))
    monkeypatch.setattr(iconify, "_draw", None)
    again = open_items("iconify", root=package)
    shutil.move(cache, tmp_path / "moved")
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "moved"))
    moved = open_items("iconify", root=package)
    assert moved.path(0).startswith(str(tmp_path / "moved"))
    for items in (again, moved):
        if items is moved:
            assert {key: image.tobytes() for key, image in drawn(items).items()} == {
                key: image.tobytes() for key, image in first.items()
            }


def test_a_drawing_that_was_broken_off_begins_again(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        assert any(cache.rglob("grey-ubyte"))  # under way
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(iconify, "_chosen", killed)
        with pytest.raises(KeyboardInterrupt):
            open_items("iconify", root=package)
    assert not any(cache.rglob("*ubyte"))
    assert len(open_items("iconify", root=package)) == 8


def test_what_can_be_mended_is_said(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "cache" / "iconify"
    cases = [
        ({}, f"@iconify/json is not in .*: npm install --prefix {there} @iconify/json .*--root DIR"),
        ({"root": tmp_path / "none"}, "is not in .*none: npm install"),
        ({"root": package, "sets": 5}, "fewer than two names are in 5 sets .*lower --data.sets"),
        ({"root": package, "sets": 1}, "sets of iconify .*from 2 to 100"),
        ({"root": package, "size": 4}, "size of iconify .*from 8 to 512"),
        ({"root": package, "style": "flat"}, "no option 'style'"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            open_items("iconify", **options)
    (package / "json" / "ant.json").write_text("[1]")
    with pytest.raises(UserError, match=r"ant\.json.*install @iconify/json again"):
        open_items("iconify", root=package)
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(UserError, match=r"resvg_py is not installed: pip install 'pullpush\[icons\]'"):
        open_items("iconify", root=package)


def test_the_real_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLPUSH_CACHE", str(REAL.parent))
    if not list(REAL.glob("*-4-64/items.parquet")):
        pytest.skip(f"no icons are drawn: npm install --prefix {REAL} @iconify/json, then pullpush data iconify")
    items = open_items("iconify")
    assert len(items) > 90_000
    assert len(items.classes) > 10_000
    sizes = items.table["label"].value_counts()
    assert sizes.min() >= 2
    assert sizes.median() >= 4
    assert not items.table.duplicated(["label", "domain"]).any()
    few = open_items("iconify", classes=300)
    assert len(few.classes) == 300
    assert not inspect(few).duplicates
    for row in range(0, len(items), 997):
        assert items.open(row).size == (64, 64)
