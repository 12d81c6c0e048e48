"""A folder of class folders."""

import os
from collections import Counter
from pathlib import Path

import pandas as pd

from pullpush.data.items import Items
from pullpush.data.texts import TEXT_SUFFIXES, classes_by_text, read_texts
from pullpush.errors import UserError
from pullpush.images import NAMES, find_images

__all__ = ["SPLIT_FOLDERS", "folder_images", "read_folder"]

SPLIT_FOLDERS = {"train": "train", **dict.fromkeys(("val", "valid", "validation"), "validation"), "test": "test"}


def read_folder(root: str | Path, *, given_splits: bool = True) -> Items:
    """Images in class folders: the class is the folder, relative to `root` (`shoes/boots/1.jpg` is of `shoes/boots`).

    Texts come from `captions.csv` in the folder, or from a text file beside each image
    (`shoes/boots/1.txt`). With them, images need no class folders: where all lie together, each is a class of its own.

    A `train` folder beside `validation` (or `val`, `valid`) or `test` gives the splits; classes are then counted below
    them.

    Args:
        root: The folder.
        given_splits: Whether to keep the splits of such a layout; if not, the same class of two splits becomes one.

    Raises:
        UserError: the folder is missing, holds no images, or images of fewer than two classes.
    """
    root = Path(root)
    wanted = "it should hold a folder a class: CLASS/IMAGE.jpg"
    if not root.is_dir():
        raise UserError(f"the folder {root} {'is a file' if root.exists() else 'does not exist'}; {wanted}")
    files, skipped = find_images(root)
    if not files:
        raise UserError(f"the folder {root} holds no images{_what(skipped)}; {wanted}")
    texts, notes = read_texts(root, [Path(file) for file in files])
    if texts is not None:
        skipped = Counter({suffix: count for suffix, count in skipped.items() if suffix not in TEXT_SUFFIXES})
    table = _places(root, files)
    if texts is not None and len(set(table["class"])) == 1:
        names = [os.path.relpath(file, root) for file in files]
        classes, note = classes_by_text(names, [texts.get(file) for file in files])
        table["class"] = pd.Series(classes, dtype=object)
        notes.append(f"no class folders: {note}")
    loose = table["class"] == ""
    _check_classes(root, table["class"][~loose], int(loose.sum()))
    if loose.any():
        notes.append(f"{loose.sum()} images lie in no class folder and are left out")
    notes += _left_out(skipped)
    table = table[~loose]
    columns = {} if texts is None else {"text": [texts.get(path, []) for path in table["path"]]}
    split = table["split"].to_list() if given_splits else ""
    return Items.build(root.resolve().name, list(table["path"]), list(table["class"]), notes, split=split, **columns)


def folder_images(root: str | Path) -> Items:
    """Every image below a folder, with or without class folders; the class is the folder's name, or empty.

    Raises:
        UserError: no images.
    """
    root = Path(root)
    paths, skipped = find_images(root)
    if not paths:
        raise UserError(f"the folder {root} holds no images{_what(skipped)}")
    labels = [Path(path).parent.relative_to(root).as_posix() for path in paths]
    labels = ["" if label == "." else label for label in labels]
    return Items.build(root.resolve().name, paths, labels, _left_out(skipped))


def _places(root: Path, files: list[str]) -> pd.DataFrame:
    """`path`, `class` and `split` by the folders in which the files lie."""
    there = {entry.name for entry in root.iterdir() if entry.is_dir()}
    splits = {name: SPLIT_FOLDERS[name.lower()] for name in there if name.lower() in SPLIT_FOLDERS}
    if "train" not in splits.values() or len(set(splits.values())) < 2:
        splits = {}
    rows = []
    for file in files:
        parts = Path(file).relative_to(root).parts[:-1]
        split = splits.get(parts[0], "") if parts else ""
        rows.append((file, "/".join(parts[1:] if split else parts), split))
    return pd.DataFrame(rows, columns=["path", "class", "split"], dtype=object)  # paths may be other bytes than UTF-8


def _check_classes(root: Path, classes: pd.Series, loose: int) -> None:
    if classes.nunique() < 2:
        flat = f"{loose} images beside each other and no class folder"
        held = f"the one class {classes.iloc[0]!r}" if len(classes) else flat
        wanted = "two classes or more are needed, one folder each: CLASS/IMAGE.jpg"
        raise UserError(f"the folder {root} holds {held}; {wanted} (`pullpush embed` and `pullpush index` need none)")


def _left_out(skipped: Counter[str]) -> list[str]:
    return [f"{skipped.total()} files are left out{_what(skipped)}; images are {NAMES}"] if skipped else []


def _what(skipped: Counter[str]) -> str:
    if not skipped:
        return ""
    return f" ({', '.join(f'{count} {suffix}' for suffix, count in skipped.most_common(8))})"
