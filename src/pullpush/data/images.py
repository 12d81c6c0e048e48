"""Items as tensors, decoded at each reading or once."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pullpush.data.items import Items
from pullpush.data.workers import by_chunks
from pullpush.images import Fit, Unreadable, opened
from pullpush.images.decode import DECODE_ERRORS, reason
from pullpush.images.files import archived, read_regular
from pullpush.images.preprocessing import square

__all__ = ["ImageDataset", "load_pixels", "median_side", "squares"]

# Images whose headers are read to know how large all are.
HEADERS = 200


class ImageDataset(Dataset[tuple[torch.Tensor, int, int]]):
    """`(image, label, id)` for each item.

    Args:
        items: What to read.
        transform: Applied to the PIL image, or with a cache to the uint8 tensor [3, cache, cache]. None: the uint8
            tensor itself.
        cache: Side of the squares that are kept in memory as uint8 after decoding once (3 * cache^2 bytes an item);
            None: every reading decodes. Filled here, in worker processes; later worker processes share it.

    Raises:
        UserError: (at reading, or here with a cache) an image cannot be decoded.
    """

    def __init__(
        self, items: Items, transform: Callable[[Any], torch.Tensor] | None = None, cache: int | None = None
    ) -> None:
        self.items, self.transform = items, transform
        self.labels, self.ids = items.labels, items.ids
        self.pixels = None if cache is None else load_pixels(items, cache)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int, int]:
        pixels = self.items.open(row) if self.pixels is None else self.pixels[row]
        if self.transform is not None:
            image = self.transform(pixels)
        else:
            image = pixels if isinstance(pixels, torch.Tensor) else square(pixels, min(pixels.size))
        return image, int(self.labels[row]), int(self.ids[row])

    def batch(self, rows: Iterable[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Many items at once: images [n, 3, s, s], labels and ids int64 [n]. With a cache, one indexing; then the
        images are uint8 squares and the transform is not applied (`Augmentation` and `normalise` take them from
        there)."""
        rows = torch.as_tensor(rows if isinstance(rows, torch.Tensor) else list(rows), dtype=torch.int64)
        pixels = self.pixels
        images = torch.stack([self[row][0] for row in rows.tolist()]) if pixels is None else pixels[rows]
        return images, self.labels[rows], self.ids[rows]


def median_side(items: Items) -> int:
    """The median shorter side of a sample of the images, by their headers, or by their boxes."""
    rows = np.linspace(0, len(items) - 1, min(HEADERS, len(items))).astype(int).tolist()
    return int(np.median([_side(items, row) for row in rows]))


def _side(items: Items, row: int) -> int:
    if box := items.box(row):
        return int(min(box[2] - box[0], box[3] - box[1]))
    path = items.path(row)
    try:
        inside = archived(path)
        sides: tuple[int, ...] = opened(read_regular(path)).size if inside is None else inside.shape[:2]
        return min(sides)
    except DECODE_ERRORS as error:
        raise Unreadable(path, reason(error)) from error


def load_pixels(items: Items, side: int, *, whole: bool = True, fit: Fit = "crop") -> torch.Tensor:
    """All images as uint8 [n, 3, side, side], by worker processes; Args as of `squares`."""
    pixels = torch.empty(len(items), 3, side, side, dtype=torch.uint8)
    start = 0
    for chunk in by_chunks(partial(squares, items, side, whole, fit=fit), len(items), "decoding images"):
        pixels[start : start + len(chunk)] = chunk
        start += len(chunk)
    return pixels


def squares(items: Items, side: int, whole: bool, rows: Sequence[int], fit: Fit = "crop") -> torch.Tensor:
    """Images of some rows as squares, uint8 [n, 3, side, side].

    Args:
        items: what to read.
        side: of the squares, in pixels.
        whole: read each image whole, or a JPEG at a scale that suffices (`open_rgb`).
        rows: numbers of rows.
        fit: how an image becomes a square, as of `Preprocessing`.
    """
    return torch.stack([square(items.open(row, None if whole else side), side, fit) for row in rows])
