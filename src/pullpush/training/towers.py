"""Towers: an encoder a modality, with what it is fed. A further modality is a kind of encoder in `encoders`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pullpush.data.images import load_pixels, median_side, squares
from pullpush.data.items import Items
from pullpush.data.sampler import BatchSampler
from pullpush.data.texts import plain, text_problems
from pullpush.data.workers import available_bytes, cores, in_workers
from pullpush.encoders.bundle import kinds
from pullpush.encoders.encoder import Encoder, principal
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.text import TextEncoder
from pullpush.encoders.views import View, embed_each
from pullpush.errors import UserError
from pullpush.evaluation.embed import evaluating
from pullpush.extras import need
from pullpush.images.augment import Augmentation, step_generator
from pullpush.images.preprocessing import normalise
from pullpush.progress import counted
from pullpush.runs.config import Config
from pullpush.training.feature_cache import cached_features, features_key, gathered, texts_key
from pullpush.training.plan import size_for

__all__ = ["SPLITS", "TOWERS", "Batch", "ImageTower", "TextTower", "Tower", "image_encoder", "moved", "start_rows"]

SPLITS = ("train", "validation", "test")
# Entries that are embedded at a time.
CHUNK, IMAGES = 256, 64
# Chunks of images that are decoded before processes have started.
FEW = 8
# Decoded images are kept where they take no more of the memory that is free.
KEPT = 0.5
# Training items by whose features the head starts, for each dimension of the embedding.
PRINCIPAL = 4
# Training images are decoded a little larger than the encoder's input, so that crops keep their sharpness.
MARGIN = 1.125


class Batch(NamedTuple):
    """What a step takes of one tower.

    Attributes:
        inputs: what `Tower.given` makes the inputs of `Tower.encode` of.
        rows: of the training table, int64 [n].
        entries: what was drawn for these rows, int64 [n].
        step: steps that were drawn before.
    """

    inputs: Any
    rows: Tensor
    entries: Tensor
    step: int


class Tower:
    """An encoder with its inputs, or with the features of its frozen backbone, which are computed once.

    What a tower embeds are its entries, numbered from 0: of any kind of encoder that has no tower of its own the items,
    each a row of their table.

    Args:
        config: of the run.
        items: with their splits.
        rank: which process this is.

    Attributes:
        name: of the modality.
        encoder: the whole encoder.
        encode: what learns: the encoder, or its head where features are cached.
        features: of all entries [entries, width] where the backbone is frozen, else None.
        backbone_scale: learning rate of the backbone as a share of the head's.
        rows: of the tables of all splits.
        notes: what a person should know of the feature cache.
    """

    name: str
    encoder: Encoder

    def __init__(self, config: Config, items: Items, rank: int = 0) -> None:
        self.config, self.items, self.rank = config, items, rank
        self.rows: pd.DataFrame = items.table
        self.backbone_scale = config.optimizer.backbone_scale
        self.notes: list[str] = []
        self._build()
        self._train = self.entries("train")
        self.features = self._features() if self.encoder.freeze else None
        self.encode: nn.Module = self.encoder if self.features is None else Head(self.encoder)

    @staticmethod
    def usable(config: Config, items: Items) -> tuple[Items, list[str]]:
        """The items that have what this tower embeds, and sentences about the others.

        Raises:
            UserError: none has.
        """
        return items, []

    def _build(self) -> None:
        """Makes the encoder, and all by which the entries are known."""
        self.name, *_ = self.config.task.split("-")
        own, kind = self.config.encoder, kinds()[self.name]
        self.encoder = kind.for_items(
            self.items, dim=own.dim, head=own.head, hidden=own.hidden, dropout=own.dropout, seed=self.config.seed
        )
        self._given = self.encoder.of_items(self.items)

    def start(self) -> None:
        """Sets the head to where it starts, if that depends on the data. Of the labels nothing is read."""
        rows = self._train
        count = start_rows(self.config, self.encoder, len(rows))
        if not count:
            return
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.config.seed))
        rows = rows[drawn[:count].sort().values]
        if self.features is None:
            parts = self._computed(self.encoder.features, self._chunks(rows), count, self.encoder.device)
            features = gathered(parts, count)
        else:
            features = self.features[rows]
        principal(cast(nn.Linear, self.encoder.head), features)

    def table(self, split: str) -> pd.DataFrame:
        """A row an embedding of a split, in their order: `label` and `id` of what it belongs to."""
        return self.rows[self.rows["split"] == split]

    def entries(self, split: str) -> Tensor:
        """The entries of a split, int64 [n], in the order of `table`."""
        return torch.from_numpy(np.flatnonzero(self.rows["split"].to_numpy() == split))

    def draw(self, rows: Tensor, step: int) -> Tensor:
        """An entry of each training row, by the seed, the step and the rank alone."""
        return self._train[rows]

    def inputs(self, entries: Tensor) -> Any:
        """What the encoder takes for these entries."""
        return self.encoder.prepare([self._given[entry] for entry in entries.tolist()])

    def loader(self, sampler: BatchSampler) -> Iterator[Batch]:
        """Training batches from the sampler's position on."""
        for rows in sampler:
            yield self.batch(torch.tensor(rows), sampler.position - 1)

    def batch(self, rows: Tensor, step: int) -> Batch:
        """What a step takes of these training rows."""
        entries = self.draw(rows, step)
        return Batch(self.inputs(entries) if self.features is None else self.features[entries], rows, entries, step)

    def given(self, batch: Batch, device: torch.device) -> Any:
        """What `encode` takes of a batch, on the device."""
        return moved(batch.inputs, device)

    def embed(self, entries: Tensor, device: torch.device, again: str = "") -> Tensor:
        """Embeddings of these entries [n, dim], on the CPU.

        Args:
            entries: int64 [n].
            device: where the encoder is.
            again: of entries that are embedded time and again, a name under which what was decoded is kept, where it
                fits in memory.
        """
        if self.features is None:
            parts = self._computed(self.encoder, self._chunks(entries, again), len(entries), device)
            return gathered(parts, len(entries))
        with evaluating(self.encoder), torch.inference_mode():
            embeddings: Tensor = self.encode(self.features[entries].to(device))
            return embeddings.float().cpu()

    def _chunks(self, entries: Tensor, again: str = "") -> Iterable[Any]:
        """The inputs for these entries, some at a time; `again` as of `embed`."""
        return (self.inputs(chunk) for chunk in entries.split(CHUNK))

    def _computed(
        self, encode: Callable[[Any], Tensor], chunks: Iterable[Any], total: int, device: torch.device
    ) -> Iterator[Tensor]:
        """`encode` of each chunk, float32 [some, ...], on the CPU."""
        with evaluating(self.encoder):
            for chunk in counted(chunks, f"embedding {self.name}s", total, f"{self.name}s"):
                with torch.inference_mode():
                    part = encode(moved(chunk, device)).float().cpu()
                yield part

    def _features(self) -> Tensor:
        """Of all entries, so that runs with other splits find them too."""
        return gathered(self._features_of(len(self.items)), len(self.items))

    def _features_of(self, entries: int) -> Iterator[Tensor]:
        chunks = self._chunks(torch.arange(entries))
        return self._computed(self.encoder.features, chunks, entries, torch.device("cpu"))


class ImageTower(Tower):
    """The images of a run; an entry is a row of the item table."""

    name = "image"
    encoder: ImageEncoder

    def _build(self) -> None:
        self.encoder = image_encoder(self.config, self.config.encoder.size or size_for(median_side(self.items)))
        self._held: dict[str, Tensor] = {}

    def inputs(self, entries: Tensor) -> Tensor:
        return torch.cat(list(self._chunks(entries)))

    def loader(self, sampler: BatchSampler) -> Iterator[Batch]:
        """Squares that were decoded before or are decoded ahead, as uint8; the same ones either way."""
        if self.features is not None:
            yield from super().loader(sampler)
            return
        first, items = sampler.position, self.items.split("train")
        side = round(self.encoder.preprocessing.size * MARGIN)
        if self._fits(len(items), side):
            pixels = load_pixels(items, side, whole=False)
            batches: Iterable[tuple[Tensor, Tensor]] = ((rows, pixels[rows]) for rows in map(torch.tensor, sampler))
        else:
            decode = partial(_rows_and_squares, items, side)
            batches = in_workers(decode, sampler, self._workers(), pinned=torch.cuda.is_available())
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
                images = in_workers(partial(squares, items, view.size, True), rows, workers)
                return (normalise(chunk, view.mean, view.std) for chunk in images)
            pixels = load_pixels(items, view.size)
            self._held[again] = pixels
        return (normalise(chunk, view.mean, view.std) for chunk in pixels.split(IMAGES))

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
        size, items = self.encoder.preprocessing.size, self.items.select(entries.numpy())
        side = max(view.side(size) for view in views)
        rows = [range(len(items))[start : start + IMAGES] for start in range(0, len(items), IMAGES)]
        chunks = in_workers(partial(squares, items, side, True), rows, self._workers() if len(rows) > FEW else 0)

        def encode(images: Tensor) -> Tensor:
            each = embed_each(self.encoder, images, views)
            return torch.stack([each[view] for view in views], 1)

        embedded = gathered(self._computed(encode, chunks, len(items), device), len(items))
        return dict(zip(views, embedded.unbind(1), strict=True))

    def _workers(self) -> int:
        """Processes that decode ahead, of this rank."""
        workers = self.config.data.workers
        return max(1, cores() // self.config.devices) if workers == "auto" else workers

    def _fits(self, items: int, size: int) -> bool:
        """Whether so many decoded images are kept in memory. What is trained does not depend on it."""
        choice, needed = self.config.data.cache, items * 3 * size * size
        return choice == "yes" or (choice == "auto" and needed < KEPT * available_bytes() / self.config.devices)

    def _features(self) -> Tensor:
        encoder = self.encoder
        key = features_key(encoder.backbone, f"{encoder.name} {encoder.preprocessing}", self.items)
        return cached_features(key, len(self.items), lambda: self._features_of(len(self.items)), self.notes)


class TextTower(Tower):
    """The texts of a run; an entry is one of the different texts, of which an item may have several.

    Attributes:
        texts: the different texts, in order.
        own: the entries of each training row.
        keys: entry to a number, int64 [entries]: equal numbers read the same.
    """

    name = "text"
    encoder: TextEncoder

    def _build(self) -> None:
        config, table = self.config, self.items.table
        options = {k: v for k, v in vars(config.text).items() if k in ("name", "head", "hidden", "dropout", "freeze")}
        self.encoder = TextEncoder(**options, dim=config.encoder.dim, seed=config.seed)
        self.backbone_scale = config.text.lr_scale
        self.texts = sorted({text for texts in table["text"] for text in texts})
        entry = {text: place for place, text in enumerate(self.texts)}
        self.own = [np.array([entry[t] for t in texts]) for texts in table["text"][table["split"] == "train"]]
        read = {text: place for place, text in enumerate(dict.fromkeys(map(plain, self.texts)))}
        self.keys = torch.tensor([read[plain(text)] for text in self.texts])
        columns = table[["split", "id", "text"]].assign(label=table[config.text.relation_column])
        rows = columns.explode("text", ignore_index=True).drop_duplicates(["split", "label", "text"])
        self.rows = rows.assign(entry=rows["text"].map(entry).astype(np.int64)).reset_index(drop=True)

    @staticmethod
    def usable(config: Config, items: Items) -> tuple[Items, list[str]]:
        has_text = items.table["text"].map(len).to_numpy() > 0
        if not has_text.any():
            raise UserError(
                f"{items.name} has no texts: give a manifest with a column 'text', a folder with captions.csv or a "
                "caption file (photo.txt) beside each image, or leave out --task image-text"
            )
        need("text")  # before anything is embedded
        left_out = int((~has_text).sum())
        notes = [f"{left_out} items have no text and are left out"] if left_out else []
        items = items.select(has_text)
        shared = text_problems(items, config.text.relation_column)
        items.notes += shared  # for the report too
        return items, notes + shared

    def entries(self, split: str) -> Tensor:
        return torch.tensor(self.table(split)["entry"].to_numpy())

    def draw(self, rows: Tensor, step: int) -> Tensor:
        drawn = np.random.default_rng([self.config.seed, step, self.rank, 2]).random(len(rows))
        own = [self.own[row] for row in rows.tolist()]
        return torch.tensor([entries[int(u * len(entries))] for entries, u in zip(own, drawn, strict=True)])

    def inputs(self, entries: Tensor) -> list[str]:
        return [self.texts[entry] for entry in entries.tolist()]

    def _features(self) -> Tensor:
        key = texts_key(self.encoder.backbone, self.encoder.name, self.texts)
        return cached_features(key, len(self.texts), lambda: self._features_of(len(self.texts)), self.notes)


# The towers that feed their encoder in a way of their own.
TOWERS: dict[str, type[Tower]] = {"image": ImageTower, "text": TextTower}


def start_rows(config: Config, encoder: Encoder, train: int) -> int:
    """How many of so many training items the start of the head is computed from; 0 where it starts at random."""
    projects = encoder.head_name == "linear" and encoder.dim <= encoder.width
    return min(train, PRINCIPAL * encoder.dim) if config.encoder.init == "pca" and projects and train > 1 else 0


def image_encoder(config: Config, size: int) -> ImageEncoder:
    """The image encoder of a run, for images of this side."""
    options = {k: v for k, v in vars(config.encoder).items() if k not in ("augment", "flip", "init")}
    return ImageEncoder(**{**options, "size": size, "freeze": bool(options["freeze"])}, seed=config.seed)


def moved(inputs: Any, device: torch.device) -> Any:
    """Inputs on a device; what is no tensor, such as texts, as it is."""
    return inputs.to(device, non_blocking=True) if isinstance(inputs, Tensor) else inputs


def _rows_and_squares(items: Items, side: int, rows: list[int]) -> tuple[Tensor, Tensor]:
    return torch.tensor(rows), squares(items, side, False, rows)


class Head(nn.Module):
    """An encoder after its backbone: features to embeddings."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.head, self.from_features = encoder.head, encoder.from_features

    def forward(self, features: Tensor) -> Tensor:
        return self.from_features(features)
