"""The item table: one row an item, whatever it was read from."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from PIL import Image

from pullpush.errors import UserError
from pullpush.escape import readable
from pullpush.files import check_fields, damaged, replacing
from pullpush.files.tables import from_arrow, path_column, read_arrow, to_arrow
from pullpush.images import open_rgb
from pullpush.notebook import lines, table, thumbnails

__all__ = ["BOX", "SPLITS", "Items", "crop", "strings"]

SPLITS = ("train", "validation", "test")
ROLES = ("query", "gallery", "both")
BOX = ("x_1", "y_1", "x_2", "y_2")
SHOWN = 12
"""Images that a notebook shows."""


@dataclass(eq=False)
class Items:
    """Images with their classes.

    `table` has one row an item: `id` (int64, kept by `select`), `label` (int64), `split` (`train`, `validation`, `test`
    or empty), `role` (`query`, `gallery`, `both`), `category`, `domain`, `text` (a list of texts), `path`.
    Optional columns: `x_1, y_1, x_2, y_2` (the box to crop, in pixels) and `held_out` (bool: a domain that training
    must not see). Only `path` and `label` must be given, the others have defaults.

    `classes[label]` is the name of a class. `notes` says in sentences what the reader counted or left out.
    Plain data, so worker processes may have it.
    """

    table: pd.DataFrame
    classes: list[str]
    name: str = "items"
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = _complete(self.table, self.name)
        self.classes = [readable(name) for name in self.classes]
        self.name, self.notes = readable(self.name), [readable(note) for note in self.notes]
        labels = self.table["label"]
        if len(labels) and not labels.between(0, len(self.classes) - 1).all():
            span = f"labels run from {labels.min()} to {labels.max()}"
            raise UserError(f"{self.name}: {span}, {len(self.classes)} classes are named")

    @classmethod
    def build(
        cls, name: str, paths: Sequence[str], class_names: Sequence[str], notes: Sequence[str] = (), **columns: Any
    ) -> Self:
        """Items from parallel lists; labels number the sorted class names."""
        classes, labels = np.unique(np.asarray(class_names, dtype=str), return_inverse=True)
        table = pd.DataFrame({"path": path_column([os.path.abspath(p) for p in paths]), "label": labels, **columns})
        return cls(table, [str(c) for c in classes], name, list(notes))

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        counts = self.table["split"].value_counts()
        splits = ", ".join(f"{counts[name]} {name}" for name in SPLITS if name in counts)
        rest = f", {counts['']} in no split" if splits and "" in counts else ""
        classes = self.table["label"].nunique()
        return f"Items({self.name!r}, {len(self)} items of {classes} classes{f': {splits}{rest}' if splits else ''})"

    def _repr_html_(self) -> str:
        """Counts, notes, and images of a few classes."""
        counts = self.table.groupby("split", sort=False)["label"].agg(["size", "nunique"])
        splits = [{"split": split or "none", "items": n, "classes": k} for split, (n, k) in counts.iterrows()]
        first = self.table.reset_index(drop=True).drop_duplicates("label")
        rows = first.sample(min(SHOWN, len(first)), random_state=0).index
        images = []
        for row in rows:
            with suppress(UserError):  # `pullpush data` says which can't be read
                images.append((self.open(row), self.classes[self.table["label"].iat[row]]))
        return lines([repr(self), *self.notes]) + table(splits) + thumbnails(images)

    def select(self, mask: Any) -> Self:
        """The items under a boolean mask, or those at the given row numbers. Ids and labels stay."""
        chosen = copy(self)  # not checked again
        chosen.table, chosen.notes = self.table.iloc[np.asarray(mask)].reset_index(drop=True), list(self.notes)
        return chosen

    def split(self, name: str) -> Self:
        """The items of one split; a UserError when there is no such split."""
        if name not in SPLITS:
            raise UserError(f"{name!r} is no split; the splits are {', '.join(SPLITS)}")
        return self.select(self.table["split"].to_numpy() == name)

    def assign(self, **columns: Any) -> Self:
        """The same items with some columns replaced."""
        return replace(self, table=self.table.assign(**columns), notes=list(self.notes))

    @property
    def labels(self) -> torch.Tensor:
        """int64 [n]."""
        return torch.from_numpy(self.table["label"].to_numpy(np.int64, copy=True))

    @property
    def ids(self) -> torch.Tensor:
        """int64 [n]."""
        return torch.from_numpy(self.table["id"].to_numpy(np.int64, copy=True))

    def path(self, row: int) -> str:
        return str(self.table["path"].iat[row])

    def box(self, row: int) -> tuple[int, int, int, int] | None:
        """The box to crop, left, top, right, bottom, where the table has one."""
        if "x_1" not in self.table.columns:
            return None
        values = [float(self.table[c].iat[row]) for c in BOX]
        if np.isnan(values).any():
            return None
        left, top, right, bottom = (round(v) for v in values)
        return left, top, right, bottom

    def open(self, row: int, side: int | None = None) -> Image.Image:
        """The image in a row, 8-bit RGB, cropped to its box; a UserError that names a file which cannot be read. `side`
        as of `open_rgb`; a box, which counts pixels of the whole image, has the image read whole."""
        path, box = self.path(row), self.box(row)
        return crop(open_rgb(path, None if box else side), box, path)

    def save(self, path: str | Path, then: str = "") -> Path:
        """Writes table, classes, name and notes into one Parquet file; complete or not at all.

        Args:
            path: the file.
            then: what to do after the cure where it can't be written, for the message (`files.replacing`).
        """
        path = Path(path)
        table = to_arrow(self.table, preserve_index=False)
        extra = json.dumps({"classes": self.classes, "name": self.name, "notes": self.notes})
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"pullpush": extra.encode()})
        with replacing(path, then) as part:
            pq.write_table(table, part)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote.

        Raises:
            UserError: it is damaged, or something else.
        """
        table = read_arrow(path)
        try:
            extra = json.loads((table.schema.metadata or {})[b"pullpush"])
            check_fields(extra, {"classes": list, "name": str, "notes": list}, path)
            return cls(from_arrow(table), extra["classes"], extra["name"], [str(note) for note in extra["notes"]])
        except KeyError as error:
            raise damaged(path, "it is no item table written by pullpush") from error
        except Exception as error:  # of a table with other types than ours
            raise damaged(path, error) from error


def crop(image: Image.Image, box: tuple[int, int, int, int] | None, path: str) -> Image.Image:
    """`image` cut to `box`, where there is one; the box must overlap the image."""
    if box is None:
        return image
    left, top, right, bottom = box
    inside = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        size = f"{image.width} x {image.height}"
        raise UserError(f"the box {box} lies outside of {path} ({size}); mend x_1, y_1, x_2, y_2")
    return image.crop(inside)


def _complete(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with all columns, their types and their values checked."""
    for column in ("path", "label"):
        if column not in table.columns:
            columns = ", ".join(map(str, table.columns))
            raise UserError(f"{name}: the item table needs the column {column!r}; it has {columns}")
    defaults = {"id": np.arange(len(table)), "split": "", "role": "both", "category": "", "domain": "", "text": ""}
    table = table.reset_index(drop=True)
    table = table.assign(**{column: value for column, value in defaults.items() if column not in table.columns})
    table["text"] = pd.Series([strings(value) for value in table["text"]], dtype=object)
    for column in ("id", "label"):
        table[column] = _whole(table[column], f"{name}: the column {column!r}")
    for column in ("split", "role", "category", "domain"):
        table[column] = table[column].fillna("").map(readable)
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise UserError(f"{name}: the id {twice.iloc[0]} stands for two items; ids must differ")
    for column, allowed in (("split", (*SPLITS, "")), ("role", ROLES)):
        wrong = set(table[column].unique()) - set(allowed)
        if wrong:
            can = ", ".join(a or "empty" for a in allowed)
            raise UserError(f"{name}: {column} {sorted(wrong)[0]!r} is unknown; it can be {can}")
    return table


def _whole(column: pd.Series, what: str) -> pd.Series:
    with suppress(ValueError, TypeError, OverflowError):  # names, or missing values
        given = pd.to_numeric(column)
        numbers = given.astype(np.int64)
        if (numbers == given).all():
            return numbers
    raise UserError(f"{what} must hold a whole number in each row; `Items.build` numbers the names of classes")


def strings(value: Any) -> list[str]:
    """The texts of an item, of one or of several; without those that are missing or empty."""
    several = value if isinstance(value, list | tuple | np.ndarray) else [value]
    return [text for each in several if pd.notna(each) and (text := readable(each).strip())]
