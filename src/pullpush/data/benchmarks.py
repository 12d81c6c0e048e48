"""What the readers of official layouts share: finding the tree, reading its lists, writing a small one."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from pullpush.data.items import Items
from pullpush.data.manifest import existing
from pullpush.data.splits import check_disjoint
from pullpush.errors import UserError
from pullpush.files import read_text

__all__ = ["Images", "Written", "counts", "find_tree", "finish", "halves", "read_list", "save_images", "write_list"]

Images = list[list[Image.Image]]
"""A list of images a class."""
Written = list[tuple[int, int, str]]
"""Of each image its class and its number in it, from 0, and its place."""


def find_tree(root: str | Path | None, name: str, below: Sequence[str], *marks: str) -> Path:
    """The folder that holds one of the files or folders `marks`: `root` itself or one of the usual ones `below` it."""
    if root is None:
        raise UserError(f"{name} is read from your own download: name its folder as root: --root FOLDER")
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"the folder {root} does not exist; root (--root DIR) names the folder of {name}")
    for folder in (root, *(root / part for part in below)):
        if any((folder / mark).exists() for mark in marks):
            return folder
    looked = ", ".join([str(root), *(f"{part}/" for part in below)])
    missing = f"{' or '.join(marks)} is missing"
    raise UserError(f"{root} is not {name} in its official layout: {missing} (looked in {looked})")


def read_list(path: Path, columns: Sequence[str], *, skip: int = 0) -> pd.DataFrame:
    """A list in plain text, columns separated by white space, `skip` lines of heading; all values as strings."""
    lines = enumerate(read_text(path, "the official layout has this list").splitlines(), 1)
    rows = {number: line.split() for number, line in lines if number > skip and line.strip()}
    for number, row in rows.items():
        if len(row) != len(columns):
            shown = " ".join(row)[:80]
            raise UserError(f"{path}, line {number}: {shown!r} should have the columns {' '.join(columns)}")
    if not rows:
        raise UserError(f"the list {path} is empty")
    return pd.DataFrame(list(rows.values()), columns=list(columns))


def finish(name: str, tree: Path, missing: str, paths: Iterable[str], classes: Sequence[str], **columns: Any) -> Items:
    """Items of the listed images, their paths relative to `tree`.

    Raises:
        UserError: images that do not exist (unless `missing` is `skip`), or a class in two splits.
    """
    notes: list[str] = []
    frame = pd.DataFrame({"path": [str(tree / path) for path in paths], "class": list(classes), **columns})
    frame = existing(frame, f"the lists of {tree}", missing, notes)
    kept = {column: frame[column].to_numpy() for column in columns}
    items = Items.build(name, list(frame["path"]), list(frame["class"]), notes, **kept)
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


def save_images(folder: Path, content: Images, place: Callable[[int, int], str]) -> Written:
    """Writes the images of a small tree, each to `place(class, number in it)` below `folder`."""
    written = [(label, i, place(label, i)) for label, images in enumerate(content) for i in range(len(images))]
    for label, i, name in written:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content[label][i].save(folder / name, quality=95)
    return written


def halves(written: Written) -> dict[str, Written]:
    """The images of the first half of the classes as `train`, the others as `test`."""
    half = (written[-1][0] + 1) // 2
    return {"train": [row for row in written if row[0] < half], "test": [row for row in written if row[0] >= half]}


def write_list(path: Path, rows: Iterable[Iterable[object]], *heading: str) -> None:
    """Writes a list as `read_list` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [*heading, *(" ".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
