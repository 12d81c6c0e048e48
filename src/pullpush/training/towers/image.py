"""The tower of images: decoded ahead or kept in memory, augmented, seen in views."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from pullpush.data.images import load_pixels, median_side, squares
from pullpush.data.items import Items
from pullpush.data.sampler import BatchSampler
from pullpush.data.workers import available_bytes, cores, in_workers
from pullpush.encoders.backbones import own_size
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.lora import Lora
from pullpush.encoders.tuning import checkpoint_gradients, tune
from pullpush.encoders.views import View, embed_each
from pullpush.images import Fit
from pullpush.images.augment import Augmentation, step_generator
from pullpush.images.preprocessing import normalise
from pullpush.modes import evaluating
from pullpush.runs.config import Config, with_texts
from pullpush.training.feature_cache import features_key, gathered
from pullpush.training.plan import TEXT_SIZE, size_for
from pullpush.training.towers.base import Batch, Tower

__all__ = ["MARGIN", "ImageTower", "image_encoder", "usual_size"]

# Images that are embedded at a time.
IMAGES = 64
# Chunks of images that are decoded before processes have started.
FEW = 8
# Decoded images are kept where they take no more of the memory that is free.
KEPT = 0.5
# Training images are decoded a little larger than the encoder's input, so that crops keep their sharpness.
MARGIN = 1.125


class ImageTower(Tower):
    """The images of a run; an entry is a row of the item table."""

    name = "image"
    encoder: ImageEncoder

    def _build(self) -> None:
        own = self.config.encoder
        self.encoder = image_encoder(self.config, own.size or own_size(own.name) or usual_size(self.config, self.items))
        self._held: dict[str, Tensor] = {}

    def inputs(self, entries: Tensor) -> Tensor:
        return torch.cat([self._seen(chunk) for chunk in self._chunks(entries)])

    def loader(self, sampler: BatchSampler) -> Iterator[Batch]:
        """Squares that were decoded before or are decoded ahead, as uint8; the same ones either way."""
        if self.features is not None:
            yield from super().loader(sampler)
            return
        first, items = sampler.position, self.items.split("train")
        view = self.encoder.preprocessing
        side = round(view.size * MARGIN)
        if self._fits(len(items), side):
            pixels = load_pixels(items, side, whole=False, fit=view.fit)
            batches: Iterable[tuple[Tensor, Tensor]] = ((rows, pixels[rows]) for rows in map(torch.tensor, sampler))
        else:
            decode = partial(_rows_and_squares, items, side, view.fit)
            batches = in_workers(decode, sampler, self._workers(), self._pinned)
        for step, (rows, images) in enumerate(batches, first):
            yield Batch(images, rows, self._train[rows], step)

    def given(self, batch: Batch, device: torch.device) -> Tensor:
        """Normalised, and augmented by the seed, the step and the rank alone, so that a resumed run sees what the
        uninterrupted one would have seen."""
        inputs, view, config = super().given(batch, device), self.encoder.preprocessing, self.config
        if self.features is not None:
            features: Tensor = inputs
            return features
        if config.encoder.augment:
            augmentation = Augmentation(view.size, view.mean, view.std, flip=0.5 * config.encoder.flip)
            images = augmentation(inputs, step_generator(config.seed, batch.step, self.rank))
        else:
            images = normalise(inputs, view.mean, view.std, view.size)
        return images.contiguous(memory_format=torch.channels_last)

    def _chunks(self, entries: Tensor, again: str = "") -> Iterable[Tensor]:
        view, pixels = self.encoder.preprocessing, self._held.get(again)
        if pixels is None:
            items = self.items.select(entries.numpy())
            if not again or not self._fits(len(items), view.size):
                rows = [range(len(items))[start : start + IMAGES] for start in range(0, len(items), IMAGES)]
                workers = self._workers() if len(rows) > FEW else 0
                decode = partial(squares, items, view.size, True, fit=view.fit)
                return in_workers(decode, rows, workers, self._pinned)
            pixels = load_pixels(items, view.size, fit=view.fit)
            self._held[again] = pixels
        chunks: Iterable[Tensor] = pixels.split(IMAGES)
        return chunks

    def _seen(self, chunk: Tensor) -> Tensor:
        view = self.encoder.preprocessing
        return normalise(chunk, view.mean, view.std)

    def can_see(self, view: View) -> bool:
        """Whether the encoder takes images of its size; some take one size only."""
        side = view.side(self.encoder.preprocessing.size)
        try:
            with evaluating(self.encoder), torch.inference_mode():
                self.encoder(torch.zeros(1, 3, side, side, device=self.encoder.device))
        except (RuntimeError, AssertionError):
            return False
        return True

    def embed_views(self, entries: Tensor, views: Sequence[View], device: torch.device) -> dict[View, Tensor]:
        """Embeddings of these images in each view, [n, dim], on the CPU; see `encoders.views`."""
        own, items = self.encoder.preprocessing, self.items.select(entries.numpy())
        side = max(view.side(own.size) for view in views)
        rows = [range(len(items))[start : start + IMAGES] for start in range(0, len(items), IMAGES)]
        decode, workers = partial(squares, items, side, True, fit=own.fit), self._workers() if len(rows) > FEW else 0
        chunks = in_workers(decode, rows, workers, self._pinned)

        def encode(images: Tensor) -> Tensor:
            each = embed_each(self.encoder, images, views)
            return torch.stack([each[view] for view in views], 1)

        embedded = gathered(self._computed(encode, chunks, len(items), device), len(items))
        return dict(zip(views, embedded.unbind(1), strict=True))

    @property
    def _pinned(self) -> bool:
        """Whether images are decoded into memory from which a GPU copies while it computes."""
        return self.encoder.device.type == "cuda"

    def _workers(self) -> int:
        """Processes that decode ahead, of this rank."""
        workers = self.config.data.workers
        return max(1, cores() // self.config.devices) if workers == "auto" else workers

    def _fits(self, items: int, size: int) -> bool:
        """Whether so many decoded images are kept in memory. What is trained does not depend on it."""
        choice, needed = self.config.data.cache, items * 3 * size * size
        return choice == "yes" or (choice == "auto" and needed < KEPT * available_bytes() / self.config.devices)

    def _features(self) -> Tensor:
        kept = "" if (pool := self.encoder.pool_name) == "auto" else " places" if self.encoder.pool else f" {pool}"
        about = f"{self.encoder.name} {self.encoder.preprocessing}{kept}"
        return self._kept_features(partial(features_key, items=self.items), about, len(self.items))


def image_encoder(config: Config, size: int) -> ImageEncoder:
    """The image encoder of a run, for images of this side."""
    own = config.encoder
    left_out = ("augment", "flip", "init", "tune", "last_stages", "gradient_checkpointing")
    options = {k: v for k, v in vars(own).items() if k not in left_out}
    encoder = ImageEncoder(**{**options, "size": size, "freeze": own.frozen}, seed=config.seed)
    tune(encoder, own.tune, own.last_stages, Lora(**vars(config.lora)), config.seed)
    if own.gradient_checkpointing:
        checkpoint_gradients(encoder)
    return encoder


def usual_size(config: Config, items: Items, gpu: bool = False) -> int:
    """The side of the input where nothing is said and the backbone takes any: it follows the images, or the task."""
    return TEXT_SIZE if with_texts(config.task) else size_for(median_side(items), gpu)


def _rows_and_squares(items: Items, side: int, fit: Fit, rows: list[int]) -> tuple[Tensor, Tensor]:
    return torch.tensor(rows), squares(items, side, False, rows, fit)
