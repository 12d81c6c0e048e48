"""Texts of the images in a folder: `captions.csv`, or a text file beside each image. What equal texts mean."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pullpush.data.items import Items, strings
from pullpush.data.tables import need_column, read_list_of_items
from pullpush.errors import UserError
from pullpush.files import read_text

__all__ = ["TABLE", "TEXT_SUFFIXES", "classes_by_text", "plain", "read_texts", "text_problems"]

TABLE = "captions.csv"
SUFFIX = ".txt"
TEXT_SUFFIXES = (SUFFIX, ".csv")


def read_texts(root: Path, files: Sequence[Path]) -> tuple[dict[str, list[str]] | None, list[str]]:
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
    listed = [[plain(text) for text in of or ()] for of in texts]
    rows = np.repeat(np.arange(len(names)), [len(of) for of in listed])
    different, codes = np.unique([text for of in listed for text in of], return_inverse=True)
    size = len(names) + len(different)
    graph = coo_matrix((np.ones(len(rows)), (rows, len(names) + codes)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][: len(names)]
    _, first, of = np.unique(component, return_index=True, return_inverse=True)
    shared = len(names) - len(first)
    together = f", but {shared} that repeat the text of another are of its class" if shared else ""
    return [names[row] for row in first[of]], f"each image is a class of its own{together}"


def text_problems(items: Items, by: str = "label") -> list[str]:
    """A sentence where texts belong to several classes (`by="id"`: items): between images and texts they
    are wrong matches for all but their own."""
    texts = items.table[[by, "text"]].explode("text").dropna()
    texts = texts.assign(plain=texts["text"].map(plain))
    owners = texts.groupby("plain", sort=False)[by].nunique()
    several = owners.index[owners > 1]
    if not len(several):
        return []
    if by == "id":
        of, cure = "several items", "--text.relation class, or say more in them"
    else:
        of = "items of several classes"
        cure = "say more in them, or leave the labels out, then items with the same text are of one class"
    example = texts["text"][texts["plain"] == several[0]].iloc[0]
    return [
        f"{len(several):,} of {len(owners):,} texts belong to {of}, such as {example!r}: between images and texts "
        f"they count as wrong matches; {cure}"
    ]


def _from_table(table: Path, root: Path, files: Sequence[Path], notes: list[str]) -> dict[str, list[str]]:
    frame = read_list_of_items(table, notes).fillna("")
    for column in ("path", "text"):
        need_column(frame, column, table)
    listed: dict[str, list[str]] = {}
    for path, text in zip(frame["path"], frame["text"], strict=True):
        listed.setdefault(str(root / path), []).extend(strings(text.split("|")))
    known = {str(file) for file in files}
    named = {path: texts for path, texts in listed.items() if path in known and texts}
    if not named:
        raise UserError(f"{table} describes no image of {root}: its paths must be relative to that folder")
    return named


def _from_files(files: Sequence[Path]) -> dict[str, list[str]]:
    beside = {str(file): file.with_suffix(SUFFIX) for file in files}
    texts = {path: read_text(file, "save it as UTF-8").splitlines() for path, file in beside.items() if file.is_file()}
    return {path: entries for path, lines in texts.items() if (entries := strings(lines))}
