"""The page of a study: one file, no network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pullpush.files import write_text
from pullpush.reports.render import render
from pullpush.reports.style import Picture

__all__ = ["Section", "Shown", "write_page"]


@dataclass(frozen=True)
class Shown:
    """A figure and what it says."""

    picture: Picture
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with sentences, figures and a table, each of them optional."""

    title: str
    text: Sequence[str] = ()
    figures: Sequence[Shown] = ()
    table: pd.DataFrame | None = None
    points: Sequence[str] = ()


def write_page(path: Path, title: str, sentence: str, sections: Sequence[Section]) -> None:
    """Writes the page, replacing an earlier one; a section with nothing in it is left out."""
    shown = [section for section in map(_known, sections) if section is not None]
    html = render(
        "pullpush.studies", "study.html", filters={"cells": _cells}, name=title, sentence=sentence, sections=shown
    )
    write_text(path, html)


def _known(section: Section) -> Section | None:
    """The section without columns in which nothing is known; None where nothing is left of it."""
    table = section.table
    if table is not None:
        table = table.dropna(axis=1, how="all")
        table = table if len(table) else None
    found = replace(section, table=table, points=[point for point in section.points if point])
    return found if found.text or found.figures or found.points or table is not None else None


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
