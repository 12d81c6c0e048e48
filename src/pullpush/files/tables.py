"""Files of tables: CSV and Parquet."""

import os
from collections.abc import Iterable
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pullpush.files.text import CURE, damaged, regular

__all__ = ["from_arrow", "path_column", "read_arrow", "read_csv", "read_parquet", "to_arrow"]

PATHS = ("path", "key")  # columns of paths


def read_csv(
    path: str | os.PathLike[str], columns: Iterable[str] = (), *, cure: str = CURE, **options: Any
) -> pd.DataFrame:
    """The table of a CSV file.

    Words are words: `NA`, `None`, `null` and `nan` are names. Empty cells are missing values.

    Args:
        path: the file.
        columns: what it must have.
        cure: what to do where the file can't be used.
        options: of `pandas.read_csv`.

    Raises:
        UserError: no such file, no CSV, or a column that is missing.
    """
    regular(path, cure)
    try:
        frame = pd.read_csv(path, **{"keep_default_na": False, "na_values": [""], **options})
    except Exception as error:  # the parsers of pandas raise many kinds
        raise damaged(path, error, cure) from error
    return _with_columns(frame, columns, path, cure)


def read_parquet(path: str | os.PathLike[str], columns: Iterable[str] = (), *, cure: str = CURE) -> pd.DataFrame:
    """The table of a Parquet file; Args and Raises as of `read_csv`."""
    table = read_arrow(path, cure=cure)
    try:
        frame = from_arrow(table)
    except Exception as error:  # columns of types that pandas lacks
        raise damaged(path, error, cure) from error
    return _with_columns(frame, columns, path, cure)


def path_column(paths: Iterable[Any], index: Any = None) -> pd.Series:
    """Paths as they are: pandas keeps text as UTF-8, which paths need not be."""
    return pd.Series(list(paths), index, dtype=object)


def to_arrow(frame: pd.DataFrame, **options: Any) -> pa.Table:
    """The Arrow table of a frame (`options` of `pyarrow.Table.from_pandas`).

    Text in Arrow is UTF-8. Paths need not be: where one isn't, their column is written as the bytes that they are.
    """
    as_bytes = {}
    for name in PATHS:
        if name in frame and any(not _is_unicode(path) for path in frame[name]):
            as_bytes[name] = path_column([os.fsencode(path) for path in frame[name]], frame.index)
    return pa.Table.from_pandas(frame.assign(**as_bytes), **options)


def from_arrow(table: pa.Table) -> pd.DataFrame:
    """The frame that `to_arrow` was given."""
    frame = table.to_pandas()
    as_text = {
        name: path_column([os.fsdecode(path) if isinstance(path, bytes) else path for path in frame[name]], frame.index)
        for name in PATHS
        if name in frame
    }
    return frame.assign(**as_text)


def _is_unicode(text: object) -> bool:
    try:
        str(text).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_arrow(path: str | os.PathLike[str], *, cure: str = CURE) -> pa.Table:
    """The Arrow table of a Parquet file, with the metadata of its schema.

    Raises:
        UserError: no such file, or no Parquet.
    """
    regular(path, cure)
    try:
        return pq.ParquetFile(path).read()
    except Exception as error:  # Arrow raises many kinds on damaged files
        raise damaged(path, error, cure) from error


def _with_columns(frame: pd.DataFrame, columns: Iterable[str], path: str | os.PathLike[str], cure: str) -> pd.DataFrame:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        have = ", ".join(map(str, frame.columns[:20]))
        raise damaged(path, f"it has no column {missing[0]!r}, its columns are {have}", cure)
    return frame
