"""A CSV or Parquet file that lists the images."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pullpush.bounds import checked
from pullpush.data.folder import SPLIT_FOLDERS
from pullpush.data.items import BOX, Items, strings
from pullpush.data.readers import Missing
from pullpush.data.tables import need_column, read_list_of_items
from pullpush.data.texts import classes_by_text
from pullpush.errors import UserError
from pullpush.files.tables import read_parquet
from pullpush.images.files import file_of
from pullpush.names import few

__all__ = ["COLUMNS", "existing", "manifest_images", "read_manifest"]

FLAGS = {"": None, "true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
COLUMNS = ("label", "path", "split", "is_query", "is_gallery", "category", "domain", "text", *BOX)


def read_manifest(file: str | Path, *, root: str | Path | None = None, missing: Missing = "error") -> Items:
    """Images listed in a CSV, TSV or Parquet file, with Open Metric Learning's column names.

    Needed: `path` (relative to `root`, by default the file's folder), and `label` (any name or number) or `text`:
    without `label`, rows belong together where they share a text (`classes_by_text`). Known besides:
    `split` (train, validation or val, test, or empty), `is_query`, `is_gallery`, `category`, `domain`, `x_1, x_2, y_1,
    y_2` (box to crop), `text` (one; several are separated by `|`, or a list in Parquet). Other columns are
    left out and named in the notes. `read_list_of_items` says which encodings and separators are read.

    Args:
        file: The manifest.
        root: The folder that paths are relative to.
        missing: `error`, or `skip` to leave listed files that do not exist out (counted in the notes).

    Raises:
        UserError: unreadable file, missing columns, unknown splits, missing files, fewer than two classes.
    """
    items = _read_items(Path(file), root, missing, classes=True)
    count = items.table["label"].nunique()
    if count < 2:
        raise UserError(f"{file} lists {len(items)} images of {count} class; training needs two classes or more")
    return items


@checked
def manifest_images(file: str | Path, *, root: str | Path | None = None, missing: Missing = "error") -> Items:
    """As `read_manifest`, but neither `label` nor `text` is needed: without them the one class has no name."""
    return _read_items(Path(file), root, missing, classes=False)


def _read_items(file: Path, root: str | Path | None, missing: str, classes: bool) -> Items:
    notes: list[str] = []
    frame = _read(file, notes)
    _check_columns(frame, file, classes)
    unknown = [str(c) for c in frame.columns if c not in COLUMNS]
    if unknown:
        notes.append(f"columns not used: {', '.join(unknown)}")
    base = Path(root).expanduser() if root is not None else file.parent
    paths = [os.path.join(base, str(path)) for path in frame["path"]]
    frame = frame[[c for c in COLUMNS if c in frame]].assign(path=paths)
    frame = existing(frame, f"{file} (paths are relative to {base})", missing, notes)
    frame = frame.assign(split=_splits(frame, file))
    if "is_query" in frame or "is_gallery" in frame:
        role = _roles(frame, file)
        left_out = int((role == "").sum())
        frame = frame.assign(role=role)[role != ""].reset_index(drop=True)
        if left_out:
            notes.append(f"{left_out} items are neither query nor gallery and are left out")
    kept = ("category", "domain", "role", *BOX, "split")
    columns: dict[str, Any] = {c: frame[c].to_numpy() for c in kept if c in frame}
    if "text" in frame:
        columns["text"] = [strings(text.split("|") if isinstance(text, str) else text) for text in frame["text"]]
    labels = list(frame["label"].astype(str)) if "label" in frame else [""] * len(frame)
    if "label" not in frame and "text" in frame:
        digits = len(str(len(frame)))  # so that classes are numbered in the order of the rows
        names = [f"{row:0{digits}d} {os.path.basename(path)}" for row, path in enumerate(frame["path"])]
        labels, note = classes_by_text(names, columns["text"])
        notes.append(f"no column 'label': {note}")
    return Items.build(file.stem, list(frame["path"]), labels, notes, **columns)


def existing(frame: pd.DataFrame, origin: str, missing: str, notes: list[str]) -> pd.DataFrame:
    """The rows whose `path` exists; the others are an error, or (`missing="skip"`) a note."""
    there = np.fromiter((os.path.isfile(file_of(p)) for p in frame["path"]), bool, len(frame))
    if there.all():
        return frame
    gone = frame["path"][~there]
    if missing == "error" or not there.any():
        raise UserError(
            f"{len(gone)} of {len(frame)} images listed in {origin} do not exist: {few(gone)}; "
            "fetch them, or leave them out: --data.missing skip (--options '{missing: skip}' outside of training)"
        )
    notes.append(f"{len(gone)} listed images do not exist and are left out: {few(gone)}")
    return frame[there].reset_index(drop=True)


def _read(file: Path, notes: list[str]) -> pd.DataFrame:
    if not file.exists():
        raise UserError(f"the manifest {file} does not exist")
    if file.suffix.lower() == ".parquet":
        frame = read_parquet(file, cure="give a Parquet file or CSV")
    else:
        frame = read_list_of_items(file, notes)
    if frame.empty:
        raise UserError(f"the manifest {file} lists no images")
    return frame


def _check_columns(frame: pd.DataFrame, file: Path, classes: bool) -> None:
    names = [str(c) for c in frame.columns]
    for column in ("label", "path"):
        if column == "label" and "label" not in names and ("text" in names or not classes):
            continue
        need_column(frame, column, file)
        without = np.flatnonzero(frame[column].isna())
        if len(without):
            raise UserError(f"{file}: {len(without)} rows have no {column}, the first is row {without[0] + 1}")
    boxed = [c for c in BOX if c in names]
    if boxed and len(boxed) < 4:
        raise UserError(f"{file}: a box needs the columns {', '.join(BOX)}; only {', '.join(boxed)} are there")
    numbers = np.isfinite(frame[boxed].apply(pd.to_numeric, errors="coerce"))
    wrong = np.flatnonzero(~(numbers.all(axis=1) | frame[boxed].isna().all(axis=1)))
    if len(wrong):
        what = f"{len(wrong)} rows have a box that is not four numbers, the first is row {wrong[0] + 1}"
        raise UserError(f"{file}: {what}; mend it, or leave all four empty")


def _splits(frame: pd.DataFrame, file: Path) -> list[str]:
    if "split" not in frame:
        return [""] * len(frame)
    splits = frame["split"].fillna("").astype(str).str.strip().str.lower()
    wrong = sorted(set(splits) - set(SPLIT_FOLDERS) - {""})
    if wrong:
        raise UserError(f"{file}: split {wrong[0]!r} is unknown; it can be train, validation, test or empty")
    return [SPLIT_FOLDERS.get(s, "") for s in splits]


def _roles(frame: pd.DataFrame, file: Path) -> NDArray[Any]:
    """The role of each row, empty where it is neither query nor gallery."""
    query, gallery = (_flags(frame, column, file) for column in ("is_query", "is_gallery"))
    unsaid = query.isna() & gallery.isna()
    query, gallery = query.eq(True), gallery.eq(True)  # what is not said is no
    both = unsaid | frame["split"].eq("train") | (query & gallery)
    return np.select([both, query, gallery], ["both", "query", "gallery"], "")


def _flags(frame: pd.DataFrame, column: str, file: Path) -> pd.Series:
    said = frame[column] if column in frame else pd.Series("", frame.index)
    words = said.astype(object).fillna("").astype(str).str.lower()
    wrong = said[~words.isin(list(FLAGS))]
    if len(wrong):
        raise UserError(f"{file}: {column} must be True, False or empty, not {wrong.iloc[0]!r}")
    return words.astype(object).map(FLAGS)
