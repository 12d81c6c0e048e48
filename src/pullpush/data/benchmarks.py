"""What the readers of official layouts share: finding the tree, reading its lists, comparing with the published
numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from pullpush.data.items import Items
from pullpush.data.manifest import existing
from pullpush.data.splits import check_disjoint
from pullpush.errors import UserError

__all__ = ["Counts", "Images", "Layouts", "Published", "compare", "counts", "find_tree", "finish", "read_list", "save"]

Counts = Mapping[str, Mapping[str, int]]
Published = Mapping[str, Counts]
"""`Items.name` -> images and classes of its parts, as published."""
Images = list[list[Image.Image]]
"""A list of images a class."""
Layouts = Mapping[str, Callable[[Path, Images], Path]]
"""Name of a layout -> what writes a small tree in it: a new folder and images to what `open_items` takes."""


def find_tree(root: str | Path | None, name: str, below: Sequence[str], mark: str) -> Path:
    """The folder that holds the file or folder `mark`: `root` itself or one of the usual folders `below` it."""
    if root is None:
        raise UserError(f"{name} is read from your own download: name its folder with root (--root DIR)")
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"the folder {root} does not exist; root (--root DIR) names the folder of {name}")
    for folder in (root, *(root / part for part in below)):
        if (folder / mark).exists():
            return folder
    looked = ", ".join([str(root), *(f"{part}/" for part in below)])
    raise UserError(f"{root} is not {name} in its official layout: {mark} is missing (looked in {looked})")


def read_list(path: Path, columns: Sequence[str], *, skip: int = 0) -> pd.DataFrame:
    """A list in plain text, columns separated by white space, `skip` lines of heading; all values as strings."""
    if not path.is_file():
        raise UserError(f"the list {path} is missing; the official layout has it")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        parts = line.split(maxsplit=len(columns) - 1)
        if number <= skip or not parts:
            continue
        if len(parts) != len(columns) or len(parts[-1].split()) != 1:
            raise UserError(f"{path}, line {number}: {line.strip()[:80]!r} should have the columns {' '.join(columns)}")
        rows.append([part.strip() for part in parts])
    if not rows:
        raise UserError(f"the list {path} is empty")
    return pd.DataFrame(rows, columns=list(columns))


def finish(name: str, frame: pd.DataFrame, tree: Path, missing: str, notes: Sequence[str] = ()) -> Items:
    """Items of a frame with `path` and `class`; missing images and classes on both sides are found here."""
    notes = list(notes)
    frame = existing(frame, f"the lists of {tree}", missing, notes)
    columns: dict[str, Any] = {c: frame[c].to_numpy() for c in frame.columns if c not in ("path", "class")}
    items = Items.build(name, list(frame["path"]), list(frame["class"]), notes, **columns)
    check_disjoint(items)
    return items


def counts(items: Items) -> dict[str, dict[str, int]]:
    """Images and classes of all items and of each part: splits, and outside of training queries and gallery."""
    table = items.table
    parts = {"all": table, **{split: table[table["split"] == split] for split in ("train", "validation", "test")}}
    if (table["role"] != "both").any():
        test = table[table["split"] != "train"]
        parts |= {role: test[test["role"].isin([role, "both"])] for role in ("query", "gallery")}
    return {
        part: {"images": len(rows), "classes": int(rows["label"].nunique())}
        for part, rows in parts.items()
        if len(rows)
    }


def compare(items: Items, expected: Counts) -> pd.DataFrame:
    """`part, what, published, found, missing`: one row for each published number."""
    here = counts(items)
    rows = []
    for part, numbers in expected.items():
        for what, published in numbers.items():
            number = here.get(part, {}).get(what, 0)
            rows.append((part, what, published, number, published - number))
    return pd.DataFrame(rows, columns=["part", "what", "published", "found", "missing"])


def save(image: Image.Image, path: Path) -> None:
    """Writes an image of a small tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)
