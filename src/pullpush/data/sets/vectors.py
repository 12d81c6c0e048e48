"""Vectors that another model made, with their classes, from one file: `--data vectors --data.root FILE.npz`."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.files.arrays import read_npz
from pullpush.images.files import keep_images

__all__ = ["read_vectors"]

SIDE = 16
CURE = "write it with numpy.savez(FILE, vectors=..., labels=...)"


def read_vectors(*, root: str | Path | None = None) -> Items:
    """A vector an item, in the column `vector`: `--task vector` trains a head on them.

    The file holds `vectors` float [n, d] and `labels` [n] (names or numbers), and where there are some `paths` [n] (of
    images, relative to the file), `texts` [n], `category` [n] and `domain` [n]. Without `paths` an item is shown as its
    numbers: a square of grey cells, from left to right and from top to bottom, the mean of several numbers a cell where
    there are more than 16 x 16.

    Args:
        root: The file, .npz.
    """
    if root is None:
        raise UserError("vectors are read from a file: --data vectors --data.root FILE.npz")
    path = Path(root)
    kinds = {"vectors": "f", "labels": "iuU", "paths": "U", "texts": "U", "category": "U", "domain": "U"}
    arrays = read_npz(path, kinds, optional=("paths", "texts", "category", "domain"), cure=CURE)
    with np.errstate(over="ignore"):  # too large for float32: named below
        vectors, labels = arrays.pop("vectors").astype(np.float32), arrays.pop("labels")
    if vectors.ndim != 2 or not vectors.size:
        shape = list(vectors.shape)
        raise UserError(f"{path}: vectors must be [n, d] with at least one number, they are {shape}; {CURE}")
    for name, column in {"labels": labels, **arrays}.items():
        if column.shape != (len(vectors),):
            shape = list(column.shape)
            raise UserError(f"{path}: {name} must be [{len(vectors)}], as there are vectors, they are {shape}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        what = f"{len(bad)} vectors hold numbers that are not finite, the first is vector {bad[0]}"
        raise UserError(f"{path}: {what}; they are read as float32")
    paths = [str(path.parent / each) for each in arrays["paths"]] if "paths" in arrays else _drawn(vectors)
    columns = {name.replace("texts", "text"): column for name, column in arrays.items() if name != "paths"}
    items = Items.build("vectors", paths, labels.astype(str).tolist())
    return items.assign(**columns, vector=list(vectors))


def _drawn(vectors: NDArray[np.float32]) -> list[str]:
    """Each vector as a small grey image, all in one archive."""
    low, high = np.percentile(vectors, (1, 99))
    grey = ((vectors - low) / max(high - low, 1e-12)).clip(0, 1)
    side = min(SIDE, math.ceil(math.sqrt(grey.shape[1])))
    cells = np.stack([part.mean(1) for part in np.array_split(grey, min(side * side, grey.shape[1]), axis=1)], axis=1)
    square = np.pad(cells, ((0, 0), (0, side * side - cells.shape[1])))
    return keep_images("vectors", (255 * square).astype(np.uint8).reshape(-1, side, side), "-images-idx3-ubyte")
