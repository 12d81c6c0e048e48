"""What an encoder is fed: training batches by step, and a whole split for evaluation."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pullpush.data.images import ImageDataset, WithSteps, load_pixels
from pullpush.data.items import Items
from pullpush.data.sampler import BatchSampler
from pullpush.images.augment import Augmentation, step_generator, train_transform
from pullpush.images.preprocessing import Preprocessing, normalise
from pullpush.runs.config import Config, DataConfig

__all__ = ["EvaluationInputs", "image_batches"]

CACHE_BYTES = 2 << 30
# Decoded a little larger than the encoder's input, so that crops keep their sharpness.
MARGIN = 1.125
CHUNK = 64


def fits_cache(items: int, size: int, choice: str) -> bool:
    """Whether decoded images are kept in memory."""
    return choice == "yes" or (choice == "auto" and items * 3 * size * size < CACHE_BYTES)


def image_batches(
    items: Items, sampler: BatchSampler, preprocessing: Preprocessing, config: Config
) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches from the sampler's position on: images, normalised float32 [n, 3, size, size], and their rows.

    What is random depends on the seed, the step and the rank alone, so a resumed run sees what
    the uninterrupted one would have seen.
    """
    size, mean, std = preprocessing.size, preprocessing.mean, preprocessing.std
    augment, flip, seed = config.encoder.augment, 0.5 * config.encoder.flip, config.seed
    side = round(size * MARGIN)
    if fits_cache(len(items), side, config.data.cache):
        dataset = ImageDataset(items, cache=side)
        view = Augmentation(size, mean, std, flip=flip)
        for rows in sampler:
            step = sampler.position - 1
            images, _, _ = dataset.batch(rows)
            if augment:
                inputs = view(images, step_generator(seed, step, sampler.rank))
            else:
                inputs = normalise(images, mean, std, size)
            yield inputs.contiguous(memory_format=torch.channels_last), torch.tensor(rows)
    else:
        transform = train_transform(size, mean, std, flip=flip) if augment else preprocessing.transform
        rows_as_ids = items.assign(id=range(len(items)))
        dataset = ImageDataset(rows_as_ids, transform, seed=seed)
        loader: Any = DataLoader(
            dataset,
            batch_sampler=WithSteps(sampler),
            num_workers=config.data.workers,
            persistent_workers=config.data.workers > 0,
        )
        for inputs, _, rows in loader:
            yield inputs, rows


class EvaluationInputs:
    """Images as the model sees them in use, float32 [n, 3, size, size], some at a time; decoded once where they fit in
    memory."""

    def __init__(self, items: Items, preprocessing: Preprocessing, config: DataConfig) -> None:
        self.preprocessing = preprocessing
        self.dataset = ImageDataset(items, preprocessing.transform)
        self.workers = config.workers
        fits = fits_cache(len(items), preprocessing.size, config.cache)
        self.pixels = load_pixels(items, preprocessing.size) if fits else None

    def __iter__(self) -> Iterator[Tensor]:
        if self.pixels is None:
            loader: Any = DataLoader(self.dataset, CHUNK, num_workers=self.workers)
            yield from (inputs for inputs, _, _ in loader)
        else:
            for chunk in self.pixels.split(CHUNK):
                yield normalise(chunk, self.preprocessing.mean, self.preprocessing.std)
