"""Descriptions of the images in a folder: `captions.csv`, or a text file beside each image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pullpush.data.items import Items
from pullpush.data.tables import read_list_of_items
from pullpush.errors import UserError

__all__ = ["CAPTION_SUFFIXES", "TABLE", "classes_by_text", "plain", "read_captions", "text_problems"]

TABLE = "captions.csv"
SUFFIX = ".txt"
CAPTION_SUFFIXES = (SUFFIX, ".csv")


def read_captions(root: Path, files: Sequence[Path]) -> tuple[dict[str, list[str]] | None, list[str]]:
    """The texts of each image by its path, None where the folder has none; and sentences about what is missing.

    `captions.csv` has the columns `path` (relative to the folder) and `text`; several texts of an image are
    several rows, or separated by `|`. Else `photo.txt` beside `photo.jpg` has one text per line.

    Raises:
        UserError: captions.csv is unreadable, lacks a column, or names no image of the folder.
    """
    table = root / TABLE
    notes: list[str] = []
    texts = _from_table(table, root, files, notes) if table.is_file() else _from_files(files)
    if not texts:
        return None, []
    without = sum(str(file) not in texts for file in files)
    return texts, [*notes, *([f"{without} images have no text"] if without else [])]


def plain(text: str) -> str:
    """A text in the form by which two are the same: without case, and any white space as one blank."""
    return " ".join(text.casefold().split())


def classes_by_text(names: Sequence[str], texts: Sequence[Sequence[str] | None]) -> tuple[list[str], str]:
    """A class for each item where no labels are given, and a sentence: items that share a text are of one class.

    Args:
        names: one an item; a class has that of its first item.
        texts: the texts of each item.
    """
    first: dict[str, int] = {}
    of = list(range(len(names)))

    def root(row: int) -> int:
        while of[row] != row:
            row = of[row]
        return row

    for row, listed in enumerate(texts):
        for text in listed if isinstance(listed, Sequence | np.ndarray) else ():
            one, other = root(first.setdefault(plain(str(text)), row)), root(row)
            of[max(one, other)] = min(one, other)
    roots = [root(row) for row in range(len(names))]
    shared = len(names) - len(set(roots))
    together = f", but {shared} that repeat the text of another are of its class" if shared else ""
    return [names[row] for row in roots], f"each image is a class of its own{together}"


def equal_texts(items: Items, by: str = "label") -> tuple[int, int, str]:
    """How many different texts there are, how many of them belong to several classes, and one of these.

    Between images and texts such a text is a wrong match for all but its own class. `by`: `label`, or
    `id` where each item counts as a class.
    """
    labels: dict[str, set[int]] = {}
    example: dict[str, str] = {}
    for label, texts in zip(items.table[by], items.table["text"], strict=True):
        for text in texts:
            labels.setdefault(plain(text), set()).add(int(label))
            example.setdefault(plain(text), text)
    several = [text for text, of in labels.items() if len(of) > 1]
    return len(labels), len(several), example[several[0]] if several else ""


def text_problems(items: Items, by: str = "label") -> list[str]:
    """A sentence where texts belong to several classes (`by="id"`: items): between images and texts they
    are wrong matches for all but their own."""
    texts, several, example = equal_texts(items, by)
    if not several:
        return []
    if by == "id":
        of, cure = "several items", "--text.relation class, or say more in them"
    else:
        of = "items of several classes"
        cure = "say more in them, or leave the labels out, then items with the same text are of one class"
    return [
        f"{several:,} of {texts:,} texts belong to {of}, such as {example!r}: between images and texts "
        f"they count as wrong matches; {cure}"
    ]


def _from_table(table: Path, root: Path, files: Sequence[Path], notes: list[str]) -> dict[str, list[str]]:
    frame = read_list_of_items(table, notes).fillna("")
    for column in ("path", "text"):
        if column not in frame:
            raise UserError(f"{table} has no column {column!r}; its columns: {', '.join(map(str, frame.columns))}")
    listed: dict[str, list[str]] = {}
    for path, text in zip(frame["path"], frame["text"], strict=True):
        listed.setdefault(str(root / path), []).extend(entry for part in text.split("|") if (entry := part.strip()))
    known = {str(file) for file in files}
    named = {path: texts for path, texts in listed.items() if path in known and texts}
    if not named:
        raise UserError(f"{table} describes no image of {root}: its paths must be relative to that folder")
    return named


def _from_files(files: Sequence[Path]) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for file in files:
        beside = file.with_suffix(SUFFIX)
        if beside.is_file():
            try:
                lines = beside.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"cannot read the caption file {beside}: {error}; save it as UTF-8") from error
            if entries := [line.strip() for line in lines if line.strip()]:
                texts[str(file)] = entries
    return texts
