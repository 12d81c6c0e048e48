"""A folder of class folders."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from pullpush.data.captions import CAPTION_SUFFIXES, classes_by_text, read_captions
from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.images import NAMES, find_images

SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def read_folder(root: str | Path, *, given_splits: bool = True) -> Items:
    """Images in class folders: the class is the folder, relative to `root` (`shoes/boots/1.jpg` is of `shoes/boots`).

    Descriptions (`text`) come from `captions.csv` in the folder, or from a text file beside each image
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
    if not root.is_dir():
        raise UserError(
            f"the folder {root} {'is a file' if root.exists() else 'does not exist'}; it should hold a folder a class"
        )
    found, skipped = find_images(root)
    files = [Path(path) for path in found]
    if not files:
        raise UserError(
            f"the folder {root} holds no images{_what(skipped)}; it should hold a folder a class: CLASS/IMAGE.jpg"
        )
    texts, notes = read_captions(root, files)
    splits = _split_folders(root)
    flat = texts is not None and len({_below_split(file, root, splits) for file in files}) == 1
    if texts is not None:
        skipped = Counter({suffix: count for suffix, count in skipped.items() if suffix not in CAPTION_SUFFIXES})
    paths, classes, split, loose = [], [], [], 0
    for file in files:
        parts = file.relative_to(root).parts[:-1]
        given = ""
        if splits and parts and parts[0] in splits:
            given, parts = splits[parts[0]], parts[1:]
        if not parts and not flat:
            loose += 1
            continue
        paths.append(str(file))
        classes.append("/".join(parts))
        split.append(given if given_splits else "")
    if flat and texts is not None:
        names = [os.path.relpath(path, root) for path in paths]
        classes, note = classes_by_text(names, [texts.get(path) for path in paths])
        notes.append(f"no class folders: {note}")
    if len(set(classes)) < 2:
        found = f"the one class {classes[0]!r}" if classes else f"{loose} images beside each other and no class folder"
        raise UserError(
            f"the folder {root} holds {found}; two classes or more are needed, one folder each: CLASS/IMAGE.jpg "
            "(`pullpush embed` and `pullpush index` need none)"
        )
    if loose:
        notes.append(f"{loose} images lie in no class folder and are left out")
    if skipped:
        notes.append(f"{sum(skipped.values())} files are left out{_what(skipped)}; images are {NAMES}")
    columns = {} if texts is None else {"text": [texts.get(path, []) for path in paths]}
    return Items.build(root.resolve().name, paths, classes, notes, split=split, **columns)


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
    notes = [f"{sum(skipped.values())} files are left out{_what(skipped)}; images are {NAMES}"] if skipped else []
    return Items.build(root.resolve().name, paths, ["" if label == "." else label for label in labels], notes)


def _below_split(file: Path, root: Path, splits: dict[str, str]) -> tuple[str, ...]:
    parts = file.relative_to(root).parts[:-1]
    return parts[1:] if parts and parts[0] in splits else parts


def _split_folders(root: Path) -> dict[str, str]:
    names = {entry.name for entry in root.iterdir() if entry.is_dir()}
    found = {name: SPLIT_FOLDERS[name.lower()] for name in names if name.lower() in SPLIT_FOLDERS}
    return found if "train" in found.values() and len(set(found.values())) > 1 else {}


def _what(skipped: Counter[str]) -> str:
    if not skipped:
        return ""
    return f" ({', '.join(f'{count} {suffix}' for suffix, count in skipped.most_common(8))})"
