"""Towers: an encoder a modality, with what it is fed. A further modality is a kind of encoder in `encoders`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pullpush.data.captions import plain, text_problems
from pullpush.data.items import Items
from pullpush.data.sampler import BatchSampler
from pullpush.encoders.bundle import kinds
from pullpush.encoders.encoder import Encoder
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.text import TextEncoder
from pullpush.errors import UserError
from pullpush.evaluation.embed import evaluating
from pullpush.extras import need
from pullpush.progress import counted
from pullpush.runs.config import Config
from pullpush.training.feature_cache import cached_features, features_key, texts_key
from pullpush.training.loaders import EvaluationInputs, image_batches

__all__ = ["SPLITS", "TOWERS", "Batch", "ImageTower", "ItemTower", "TextTower", "Tower"]

SPLITS = ("train", "validation", "test")
CHUNK = 256


class Batch(NamedTuple):
    """What a step takes of one tower.

    Attributes:
        inputs: what `Tower.encode` takes.
        rows: of the training table, int64 [n].
        entries: what was drawn for these rows, int64 [n].
    """

    inputs: Any
    rows: Tensor
    entries: Tensor


class Tower(ABC):
    """An encoder with its inputs, or with the features of its frozen backbone, which are computed once.

    What a tower embeds are its entries, numbered from 0: an image an item, or the different texts of all items.

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
        own: the entries of each training row.
        keys: of a tower that may stand second, entry to a number, int64 [entries]: equal numbers read the same.
        notes: what a person should know of the feature cache.
    """

    name: str
    encoder: Encoder
    backbone_scale: float
    rows: pd.DataFrame
    own: Sequence[NDArray[np.int64]]
    keys: Tensor

    def __init__(self, config: Config, items: Items, rank: int = 0) -> None:
        self.config, self.items, self.rank = config, items, rank
        self.notes: list[str] = []
        self.features = self._features() if self.encoder.freeze else None
        self.encode: nn.Module = self.encoder if self.features is None else Head(self.encoder)

    @staticmethod
    def usable(config: Config, items: Items) -> tuple[Items, list[str]]:
        """The items that have what this tower embeds, and sentences about the others.

        Raises:
            UserError: none has.
        """
        return items, []

    def table(self, split: str) -> pd.DataFrame:
        """A row an embedding of a split, in their order: `label` and `id` of what it belongs to."""
        return self.rows[self.rows["split"] == split]

    @abstractmethod
    def entries(self, split: str) -> Tensor:
        """The entries of a split, int64 [n], in the order of `table`."""

    def draw(self, rows: Tensor, step: int) -> Tensor:
        """One of the own entries of each training row, by the seed, the step and the rank alone."""
        drawn = np.random.default_rng([self.config.seed, step, self.rank, 2]).random(len(rows))
        own = [self.own[row] for row in rows.tolist()]
        return torch.tensor([entries[int(u * len(entries))] for entries, u in zip(own, drawn, strict=True)])

    @abstractmethod
    def inputs(self, entries: Tensor) -> Any:
        """What the encoder takes for these entries."""

    @abstractmethod
    def _compute(
        self, encode: Callable[[Any], Tensor], entries: Tensor, device: torch.device, again: str = ""
    ) -> Tensor:
        """`encode` of these entries, float32 [n, ...], on the CPU; `again` as of `embed`."""

    @abstractmethod
    def _features(self) -> Tensor:
        """Of all entries, so that runs with other splits find them too."""

    def loader(self, sampler: BatchSampler) -> Iterator[Batch]:
        """Training batches from the sampler's position on."""
        for rows in sampler:
            yield self.batch(torch.tensor(rows), sampler.position - 1)

    def batch(self, rows: Tensor, step: int) -> Batch:
        """What a step takes of these training rows."""
        entries = self.draw(rows, step)
        return Batch(self.inputs(entries) if self.features is None else self.features[entries], rows, entries)

    def embed(self, entries: Tensor, device: torch.device, again: str = "") -> Tensor:
        """Embeddings of these entries [n, dim], on the CPU.

        Args:
            entries: int64 [n].
            device: where the encoder is.
            again: of entries that are embedded time and again, a name under which what was decoded is kept, where it
                fits in memory.
        """
        with evaluating(self.encoder):
            if self.features is None:
                return self._compute(self.encoder, entries, device, again)
            with torch.inference_mode():
                embeddings: Tensor = self.encode(self.features[entries].to(device))
            return embeddings.float().cpu().clone()

    def embed_split(self, split: str, device: torch.device) -> Tensor:
        """Embeddings of a split [n, dim], on the CPU, in the order of `table`."""
        return self.embed(self.entries(split), device, split)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimiser; each group holds its own highest learning rate."""
        o = self.config.optimizer
        return self.encoder.parameter_groups(o.lr, backbone_scale=self.backbone_scale, weight_decay=o.weight_decay)


class ImageTower(Tower):
    """The images of a run; an entry is a row of the item table."""

    name = "image"
    encoder: ImageEncoder

    def __init__(self, config: Config, items: Items, rank: int = 0) -> None:
        options = {k: v for k, v in vars(config.encoder).items() if k not in ("augment", "flip")}
        self.encoder = ImageEncoder(**options, seed=config.seed)
        self.backbone_scale = config.optimizer.backbone_scale
        self.rows, splits = items.table, items.table["split"].to_numpy()
        self._entries = {name: torch.from_numpy(np.flatnonzero(splits == name)) for name in SPLITS}
        self._held: dict[str, EvaluationInputs] = {}
        super().__init__(config, items, rank)

    def entries(self, split: str) -> Tensor:
        return self._entries[split]

    def draw(self, rows: Tensor, step: int) -> Tensor:
        return self._entries["train"][rows]

    def inputs(self, entries: Tensor) -> Tensor:
        return torch.cat(list(self._evaluation_inputs(entries).chunks()))

    def loader(self, sampler: BatchSampler) -> Iterator[Batch]:
        """Decoded ahead, and augmented."""
        if self.features is not None:
            yield from super().loader(sampler)
            return
        for inputs, rows in image_batches(self.items.split("train"), sampler, self.encoder.preprocessing, self.config):
            yield Batch(inputs, rows, self._entries["train"][rows])

    def _compute(
        self, encode: Callable[[Any], Tensor], entries: Tensor, device: torch.device, again: str = ""
    ) -> Tensor:
        inputs = self._held.get(again) or self._evaluation_inputs(entries)
        if again:
            self._held[again] = inputs
        return inputs.embed(encode, device)

    def _evaluation_inputs(self, entries: Tensor) -> EvaluationInputs:
        return EvaluationInputs(self.items.select(entries.numpy()), self.encoder.preprocessing, self.config.data)

    def _features(self) -> Tensor:
        encoder = self.encoder
        key = features_key(encoder.backbone, f"{encoder.name} {encoder.preprocessing}", self.items)

        def compute() -> Tensor:
            with evaluating(encoder):
                return self._compute(encoder.features, torch.arange(len(self.items)), torch.device("cpu"))

        return cached_features(key, len(self.items), compute, self.notes)


class TextTower(Tower):
    """The texts of a run; an entry is one of the different texts, of which an item may have several.

    Attributes:
        texts: the different texts, in order.
    """

    name = "text"
    encoder: TextEncoder

    def __init__(self, config: Config, items: Items, rank: int = 0) -> None:
        options = {k: v for k, v in vars(config.text).items() if k in ("name", "head", "hidden", "dropout", "freeze")}
        self.encoder = TextEncoder(**options, dim=config.encoder.dim, seed=config.seed)
        self.backbone_scale = config.text.lr_scale
        texts_of = items.table["text"]
        self.texts = sorted({text for texts in texts_of for text in texts})
        entry = {text: place for place, text in enumerate(self.texts)}
        self.own = [np.array([entry[t] for t in texts]) for texts in texts_of[items.table["split"] == "train"]]
        read = {text: place for place, text in enumerate(dict.fromkeys(map(plain, self.texts)))}
        self.keys = torch.tensor([read[plain(text)] for text in self.texts])
        columns = items.table[["split", "id", "text"]].assign(label=items.table[config.text.relation_column])
        rows = columns.explode("text", ignore_index=True).drop_duplicates(["split", "label", "text"])
        self.rows = rows.assign(entry=rows["text"].map(entry).astype(np.int64)).reset_index(drop=True)
        super().__init__(config, items, rank)

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

    def inputs(self, entries: Tensor) -> list[str]:
        return [self.texts[entry] for entry in entries.tolist()]

    @torch.inference_mode()
    def _compute(
        self, encode: Callable[[Sequence[str]], Tensor], entries: Tensor, device: torch.device, again: str = ""
    ) -> Tensor:
        texts = self.inputs(entries)
        chunks = (texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))
        embedded = [encode(chunk).float().cpu() for chunk in counted(chunks, "embedding texts", len(texts), "texts")]
        return torch.cat(embedded).clone()

    def _features(self) -> Tensor:
        key = texts_key(self.encoder.backbone, self.encoder.name, self.texts)

        def compute() -> Tensor:
            with evaluating(self.encoder):
                return self._compute(self.encoder.features, torch.arange(len(self.texts)), torch.device("cpu"))

        return cached_features(key, len(self.texts), compute, self.notes)


class ItemTower(Tower):
    """What an encoder of another kind embeds of each item; an entry is a row of the item table."""

    def __init__(self, config: Config, items: Items, rank: int = 0) -> None:
        self.name, *_ = config.task.split("-")
        own, kind = config.encoder, kinds()[self.name]
        self.encoder = kind.for_items(
            items, dim=own.dim, head=own.head, hidden=own.hidden, dropout=own.dropout, seed=config.seed
        )
        self.backbone_scale = config.optimizer.backbone_scale
        self.rows, splits = items.table, items.table["split"].to_numpy()
        self.own = [np.array([row]) for row in np.flatnonzero(splits == "train")]
        self._given = self.encoder.of_items(items)
        super().__init__(config, items, rank)

    def entries(self, split: str) -> Tensor:
        return torch.from_numpy(np.flatnonzero(self.rows["split"].to_numpy() == split))

    def inputs(self, entries: Tensor) -> Any:
        return self.encoder.prepare([self._given[entry] for entry in entries.tolist()])

    @torch.inference_mode()
    def _compute(
        self, encode: Callable[[Any], Tensor], entries: Tensor, device: torch.device, again: str = ""
    ) -> Tensor:
        chunks = counted(entries.split(CHUNK), f"embedding {self.name}s", len(entries), "items")
        return torch.cat([encode(self.inputs(chunk).to(device)).float().cpu() for chunk in chunks]).clone()

    def _features(self) -> Tensor:
        with evaluating(self.encoder):
            return self._compute(self.encoder.features, torch.arange(len(self.rows)), torch.device("cpu"))


# The towers that feed their encoder in a way of their own; any other kind of encoder has an `ItemTower`.
TOWERS: dict[str, type[Tower]] = {"image": ImageTower, "text": TextTower}


class Head(nn.Module):
    """An encoder after its backbone: features to embeddings."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.head, self.from_features = encoder.head, encoder.from_features

    def forward(self, features: Tensor) -> Tensor:
        return self.from_features(features)
