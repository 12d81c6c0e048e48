"""Small images of the items, many in one file.

A pack is written once and never changed; a new version links to the packs of the one before (no copy) and adds its own.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # a decoder process, which makes thumbnails, starts in half the time without it
    import pandas as pd

__all__ = ["PREFIX", "Packs", "thumbnail", "write"]

PREFIX = "thumbnails-"
SIDE, QUALITY = 160, 80
PACKS = 16
"""More packs than these, or more dead bytes than living ones, and they are written anew as one."""


def thumbnail(image: Image.Image, side: int = SIDE) -> bytes:
    """An RGB image as WebP, at most `side` pixels wide and high; never enlarged."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()


def write(folder: Path, table: pd.DataFrame, previous: Path | None, new: Iterable[bytes]) -> pd.DataFrame:
    """Writes the packs of a version and returns `table` with `pack`, `offset`, `length` filled.

    Rows with a pack (0 or more) are those of `previous`; the others (-1) get the images of `new`, in order.
    """
    table = table.copy()
    old = table["pack"].to_numpy() >= 0
    files = sorted(previous.glob(f"{PREFIX}*")) if previous is not None else []
    order, number, images = np.flatnonzero(~old), len(files), iter(new)
    size = sum(file.stat().st_size for file in files)
    if previous is not None and (len(files) >= PACKS or size > 2 * int(table.loc[old, "length"].sum())):
        packs, places = Packs(previous), table.loc[old, ["pack", "offset", "length"]].to_numpy()
        order, number = np.concatenate([np.flatnonzero(old), order]), 0
        images = chain((packs.read(*place) for place in places), images)
    else:
        for file in files:
            os.link(file, folder / file.name)
    if len(order):
        with (folder / f"{PREFIX}{number:03d}.pack").open("wb") as pack:
            lengths = np.array([pack.write(image) for image in images], np.int64)
        for name, values in {"pack": number, "offset": np.cumsum(lengths) - lengths, "length": lengths}.items():
            column = table[name].to_numpy(np.int64, copy=True)
            column[order] = values
            table[name] = column
    return table


class Packs:
    """The packs of a version, mapped for reading."""

    def __init__(self, folder: Path) -> None:
        self._maps: list[mmap.mmap | bytes] = []
        for file in sorted(folder.glob(f"{PREFIX}*")):
            with file.open("rb") as opened:
                self._maps.append(
                    mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if file.stat().st_size else b""
                )

    def read(self, pack: int, offset: int, length: int) -> bytes:
        return bytes(self._maps[pack][offset : offset + length])
