"""The pages of studies: their sections, what all of them end with, and tables of measured values."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pullpush.reports.page import Block, Page, Section
from pullpush.studies.obtained import how_obtained
from pullpush.studies.plan import StudyRun

__all__ = ["tabled", "write_page"]


def write_page(
    title: str,
    lead: str,
    sections: Sequence[Section],
    runs: Sequence[StudyRun],
    out: Path,
    failed: Sequence[str] = (),
    shows: Collection[str] = ("test", "seeds", "times"),
    table: pd.DataFrame | None = None,
) -> Path:
    """Writes page.html: the sections, then how the numbers were obtained and, where there is a table, all runs.

    Args:
        runs, failed, shows: as of `how_obtained`.
        table: a row a run.

    Returns:
        The page.
    """
    ends = [
        Section("How the numbers were obtained", [Block(lines=how_obtained(runs, out, failed, shows))]),
        Section("All runs", [tabled(pd.DataFrame() if table is None else table)]),
    ]
    return Page("study", title, lead, [*sections, *ends]).write(out / "page.html")


def tabled(table: pd.DataFrame) -> Block:
    """The block of a table, without columns in which nothing is known; empty where the table is."""
    table = table.dropna(axis=1, how="all")
    return Block(head=list(table.columns), rows=_cells(table), wide=True) if len(table) else Block()


def _cells(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The rows as text. Numbers of a column are as they were set, or, where they were measured, of equal decimals."""
    return list(zip(*(_column(table[name]) for name in table), strict=True))


def _column(values: pd.Series) -> list[str]:
    form = ""
    if pd.api.types.is_float_dtype(values):
        known = values[np.isfinite(values)]
        if any(float(f"{value:.4g}") != value for value in known):
            form = f".{min(max(3 - math.floor(math.log10(known.abs().max())), 0), 4)}f"
    return [_text(value, form) for value in values]


def _text(value: object, form: str) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "–"
    # 16, not 16.0, and 10000, not 1e+04
    return f"{value:{form or ('.0f' if value.is_integer() and abs(value) < 1e9 else '.4g')}}"
