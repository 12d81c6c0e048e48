"""Items as tensors, decoded at each reading or once."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset

from pullpush.data.items import Items
from pullpush.data.sampler import BatchSampler
from pullpush.data.workers import by_chunks
from pullpush.images.augment import step_generator
from pullpush.images.preprocessing import square

__all__ = ["ImageDataset", "WithSteps", "load_pixels"]

Index = int | tuple[int, int]


class ImageDataset(Dataset[tuple[torch.Tensor, int, int]]):
    """`(image, label, id)` for each item.

    Args:
        items: What to read.
        transform: Applied to the PIL image, or with a cache to the uint8 tensor [3, cache, cache]. None: the uint8
            tensor itself.
        cache: Side of the squares that are kept in memory as uint8 after decoding once (3 * cache^2 bytes an item);
            None: every reading decodes. Filled here, in worker processes; later worker processes share it.
        seed: With an index `(row, step)` the transform draws from (seed, step, row) and nothing else; see `WithSteps`.

    Raises:
        UserError: (at reading, or here with a cache) an image cannot be decoded.
    """

    def __init__(
        self,
        items: Items,
        transform: Callable[[Any], torch.Tensor] | None = None,
        cache: int | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.items, self.transform, self.seed = items, transform, seed
        self.labels, self.ids = items.labels, items.ids
        self.pixels = None if cache is None else load_pixels(items, cache)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Index) -> tuple[torch.Tensor, int, int]:
        row, step = index if isinstance(index, tuple) else (index, None)
        pixels = self.items.open(row) if self.pixels is None else self.pixels[row]
        if self.transform is None:
            image = pixels if isinstance(pixels, torch.Tensor) else square(pixels, min(pixels.size))
        elif step is None:
            image = self.transform(pixels)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(step_generator(self.seed, step, row).initial_seed())
                image = self.transform(pixels)
        return image, int(self.labels[row]), int(self.ids[row])

    def batch(self, rows: Iterable[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Many items at once: images [n, 3, s, s], labels and ids int64 [n]. With a cache, one indexing; then the
        images are uint8 squares and the transform is not applied (`Augmentation` and `normalise` take them from
        there)."""
        rows = torch.as_tensor(rows if isinstance(rows, torch.Tensor) else list(rows), dtype=torch.int64)
        pixels = self.pixels
        images = torch.stack([self[row][0] for row in rows.tolist()]) if pixels is None else pixels[rows]
        return images, self.labels[rows], self.ids[rows]


def load_pixels(items: Items, side: int) -> torch.Tensor:
    """All images as uint8 [n, 3, side, side] (shorter side resized to `side`, the middle cut out), by worker
    processes."""
    pixels = torch.empty(len(items), 3, side, side, dtype=torch.uint8)
    start = 0
    for chunk in by_chunks(partial(_squares, items, side), len(items), "decoding images"):
        pixels[start : start + len(chunk)] = chunk
        start += len(chunk)
    return pixels


def _squares(items: Items, side: int, rows: range) -> torch.Tensor:
    return torch.stack([square(items.open(row), side) for row in rows])


class WithSteps:
    """A sampler's batches as `[(row, step), ...]`, for an `ImageDataset` whose transform is random.

    The step is the sampler's position before the batch.
    """

    def __init__(self, sampler: BatchSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for rows in self.sampler:
            yield [(row, self.sampler.position - 1) for row in rows]
