"""What is to be indexed: a row an image, with the size and time by which a change is noticed."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from pullpush.data.folder import folder_images
from pullpush.data.items import Items
from pullpush.data.readers import PLACES
from pullpush.data.sources import open_items
from pullpush.errors import UserError
from pullpush.files.tables import path_column
from pullpush.images.files import file_of
from pullpush.search.stores.base import FILTERS

__all__ = ["COLUMNS", "KEYS", "read_source"]

KEYS = ["key", "size", "mtime"]
"""Two rows with the same values are the same image, and its embedding is not computed again."""
COLUMNS = [*KEYS, "path", *FILTERS, "text"]


def read_source(source: str | os.PathLike[str] | Items) -> tuple[Items, pd.DataFrame, str]:
    """The items of a data set, manifest or folder, their table with `COLUMNS`, and what the source is called in the
    record of an index. Files that are missing have size -1.

    In a folder every image counts, also without class folders; the label is the folder's name, or empty.

    Raises: `UserError` when the source is unknown or holds no image.
    """
    if not isinstance(source, Items) and str(source) not in PLACES and Path(source).is_dir():
        items = folder_images(Path(source))
    else:
        items = open_items(source if isinstance(source, Items) else str(source))
    if isinstance(source, Items):
        called = source.name
    else:
        called = os.path.abspath(source) if os.path.exists(source) else str(source)
    if not len(items):
        raise UserError(f"{source} holds no images; there is nothing to index")
    table = items.table
    paths = [os.path.abspath(path) for path in table["path"]]
    boxes = [items.box(row) for row in range(len(items))] if "x_1" in table.columns else [None] * len(items)
    stats = [_stat(path) for path in paths]
    frame = pd.DataFrame(
        {
            "key": path_column(
                path if box is None else f"{path} {box}" for path, box in zip(paths, boxes, strict=True)
            ),
            "size": np.array([size for size, _ in stats], np.int64),
            "mtime": np.array([mtime for _, mtime in stats], np.int64),
            "path": path_column(paths),
            "label": [items.classes[label] for label in table["label"]],
            **{name: table[name].to_numpy() for name in ("category", "domain", "split")},
            "text": [list(texts) for texts in table["text"]],
        }
    )
    rows = np.flatnonzero(~frame.duplicated(KEYS))
    return items.select(rows), frame.iloc[rows].reset_index(drop=True), called


def _stat(path: str) -> tuple[int, int]:
    """Size and time of the file; of an archive for its images (`FILE#7`)."""
    try:
        status = os.stat(file_of(path))
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns
