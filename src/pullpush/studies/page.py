"""The blocks that only pages of studies have: tables of measured values."""

import math

import numpy as np
import pandas as pd

from pullpush.reports.page import Block

__all__ = ["tabled"]


def tabled(table: pd.DataFrame) -> Block:
    """The block of a table, without columns in which nothing is known; empty where the table is."""
    table = table.dropna(axis=1, how="all")
    return Block(head=list(table.columns), rows=_cells(table), wide=True) if len(table) else Block()


def _cells(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The rows as text. Numbers of a column are as they were set, or, where they were measured, of equal decimals."""
    return list(zip(*(_column(table[name]) for name in table), strict=True))


def _column(values: pd.Series) -> list[str]:
    if not pd.api.types.is_float_dtype(values):
        return [_text(value) for value in values]
    known = values[np.isfinite(values)]
    if all(float(f"{value:.4g}") == value for value in known):
        return [_text(value) for value in values]
    decimals = min(max(3 - math.floor(math.log10(known.abs().max())), 0), 4)
    return [_text(value, f".{decimals}f") for value in values]


def _text(value: object, form: str = "") -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "–"
    # 16, not 16.0, and 10000, not 1e+04
    return f"{value:{form or ('.0f' if value.is_integer() and abs(value) < 1e9 else '.4g')}}"
