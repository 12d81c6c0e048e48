"""Files of tables: CSV and Parquet."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pullpush.files.text import CURE, damaged, regular

__all__ = ["check_columns", "read_arrow", "read_csv", "read_parquet"]


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
    check_columns(frame, columns, path, cure)
    return frame


def read_parquet(path: str | os.PathLike[str], columns: Iterable[str] = (), *, cure: str = CURE) -> pd.DataFrame:
    """The table of a Parquet file; Args and Raises as of `read_csv`."""
    table = read_arrow(path, cure=cure)
    try:
        frame = table.to_pandas()
    except Exception as error:
        raise damaged(path, error, cure) from error
    check_columns(frame, columns, path, cure)
    return frame


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


def check_columns(
    frame: pd.DataFrame, columns: Iterable[str] | Mapping[str, str], path: str | os.PathLike[str], cure: str = CURE
) -> None:
    """Raises `UserError` unless `frame` has all `columns`."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        have = ", ".join(map(str, frame.columns[:20]))
        raise damaged(path, f"it has no column {missing[0]!r}, its columns are {have}", cure)
