"""Lists that people write: CSV from any spreadsheet."""

import codecs
import csv
from pathlib import Path

import pandas as pd

from pullpush.errors import UserError
from pullpush.files import regular
from pullpush.files.tables import read_csv
from pullpush.names import did_you_mean

__all__ = ["need_column", "read_list_of_items"]

CURE = "save it as CSV with a heading line such as path,label"
TEXTS = ("path", "label", "text", "split", "category", "domain")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_list_of_items(file: Path, notes: list[str]) -> pd.DataFrame:
    """A CSV or TSV file as a table, its encoding and its separator told from the file; `notes` get what is unusual.

    Read are UTF-8 and UTF-16, with their mark or without, and else Windows' cp1252; commas, semicolons and tabs.

    Raises:
        UserError: no regular file, no table.
    """
    content = regular(file, CURE).read_bytes()
    encoding = _encoding(content)
    first = content[: 1 << 16].decode(encoding, errors="replace").lstrip("\ufeff").splitlines()[:1]
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    separator = max(SEPARATORS, key=lambda each: (_known(first, each), each == usual))
    frame = read_csv(file, cure=CURE, sep=separator, encoding=encoding, dtype=dict.fromkeys(TEXTS, str))
    frame.columns = [str(name).strip() for name in frame.columns]
    if encoding == "cp1252":
        notes.append(f"{file.name} is not UTF-8 and is read as Windows' cp1252; save it as UTF-8 if names look wrong")
    if separator != usual:
        notes.append(f"{file.name} has its columns separated by {SEPARATORS[separator]}")
    return frame


def need_column(frame: pd.DataFrame, column: str, file: Path) -> None:
    """A UserError, with the nearest of its columns, where a list has no such column."""
    names = [str(name) for name in frame.columns]
    if column not in names:
        hint = did_you_mean(column, names, "", "{!r}", 0.5)
        there = f"its columns: {', '.join(names)}"
        cure = f"{hint} rename it to {column!r}; {there}" if hint else f"{there}; rename one of them to {column!r}"
        raise UserError(f"{file} has no column {column!r}; {cure}")


def _known(first: list[str], separator: str) -> int:
    """How many of the columns that are known a heading has when it is separated by `separator`."""
    return len({name.strip().lower() for row in csv.reader(first, delimiter=separator) for name in row} & set(TEXTS))


def _encoding(content: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding
    if b"\x00" in content[:4]:
        return "utf-16-le" if content[1:2] == b"\x00" else "utf-16-be"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"
