"""Descriptions of the images in a folder: `captions.csv`, or a text file beside each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pullpush.errors import UserError

TABLE = "captions.csv"
SUFFIX = ".txt"
CAPTION_SUFFIXES = (SUFFIX, ".csv")


def read_captions(root: Path, files: Sequence[Path]) -> tuple[dict[str, list[str]] | None, list[str]]:
    """The descriptions of each image by its path, None where the folder has none; and sentences about what is missing.

    `captions.csv` has the columns `path` (relative to the folder) and `text`; several descriptions of an image are
    several rows, or separated by `|`. Else `photo.txt` beside `photo.jpg` has a description a line.

    Raises:
        UserError: captions.csv is unreadable, lacks a column, or names no image of the folder.
    """
    table = root / TABLE
    found = _from_table(table, root, files) if table.is_file() else _from_files(files)
    if not found:
        return None, []
    without = sum(str(file) not in found for file in files)
    return found, [f"{without} images have no description"] if without else []


def _from_table(table: Path, root: Path, files: Sequence[Path]) -> dict[str, list[str]]:
    try:
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {table}: {str(error).splitlines()[0]}") from error
    for column in ("path", "text"):
        if column not in frame:
            raise UserError(f"{table} has no column {column!r}; its columns: {', '.join(map(str, frame.columns))}")
    found: dict[str, list[str]] = {}
    for path, text in zip(frame["path"], frame["text"], strict=True):
        found.setdefault(str(root / path), []).extend(said for part in text.split("|") if (said := part.strip()))
    known = {str(file) for file in files}
    named = {path: texts for path, texts in found.items() if path in known and texts}
    if not named:
        raise UserError(f"{table} describes no image of {root}: its paths must be relative to that folder")
    return named


def _from_files(files: Sequence[Path]) -> dict[str, list[str]]:
    found = {}
    for file in files:
        beside = file.with_suffix(SUFFIX)
        if beside.is_file():
            try:
                lines = beside.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"cannot read the caption file {beside}: {error}. Save it as UTF-8.") from error
            if texts := [line.strip() for line in lines if line.strip()]:
                found[str(file)] = texts
    return found
