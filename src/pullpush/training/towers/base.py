"""What every tower is: an encoder, with its inputs or with the features of its frozen backbone."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pullpush.data.items import Items
from pullpush.data.sampler import BatchSampler
from pullpush.encoders.bundle import kinds
from pullpush.encoders.encoder import Encoder, principal
from pullpush.modes import evaluating
from pullpush.progress import counted
from pullpush.runs.config import Config
from pullpush.training.feature_cache import cached_features, gathered
from pullpush.transfer import arriving, moved

__all__ = ["SPLITS", "Batch", "Tower", "start_rows"]

SPLITS = ("train", "validation", "test")
CPU = torch.device("cpu")
# Entries that are embedded at a time.
CHUNK = 256
# Training items by whose features the head starts, for each dimension of the embedding.
PRINCIPAL = 4


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
        device: where the encoder is from the start on.
        local_rank: which process this is of those on this machine, which compute features together.

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

    def __init__(
        self, config: Config, items: Items, rank: int = 0, device: torch.device = CPU, local_rank: int = 0
    ) -> None:
        self.config, self.items, self.rank, self.local_rank = config, items, rank, local_rank
        self.rows: pd.DataFrame = items.table
        self.backbone_scale = config.optimizer.backbone_scale
        self.notes: list[str] = []
        self._build()
        self.encoder.to(device)
        self._train = self.entries("train")
        self.features = self._features() if self.encoder.freeze else None
        self.encode: nn.Module = self.encoder if self.features is None else _Head(self.encoder)

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
        if start_rows(self.config, self.encoder, len(self._train)):
            principal(cast(nn.Linear, self.encoder.head), self.drawn_features())

    def drawn_features(self) -> Tensor:
        """Features of the training entries by which a linear head starts, drawn by the seed, [n, width]."""
        rows = self._train
        count = start_rows(self.config, self.encoder, len(rows))
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.config.seed))
        rows = rows[drawn[:count].sort().values]
        features = gathered(self._features_of(rows, count), count) if self.features is None else self.features[rows]
        with torch.no_grad():
            return self.encoder.pooled(features.to(self.encoder.device)).float().cpu()

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
            parts = self._computed(self._whole, self._chunks(entries, again), len(entries), device)
            return gathered(parts, len(entries))
        with evaluating(self.encoder), torch.inference_mode():
            embeddings: Tensor = self.encode(self.features[entries].to(device))
            return embeddings.float().cpu()

    def _chunks(self, entries: Tensor, again: str = "") -> Iterable[Any]:
        """The inputs for these entries, some at a time; `again` as of `embed`."""
        return (self.inputs(chunk) for chunk in entries.split(CHUNK))

    def _seen(self, chunk: Any) -> Any:
        """What the encoder takes of a chunk, on its device."""
        return chunk

    def _whole(self, chunk: Any) -> Tensor:
        embeddings: Tensor = self.encoder(self._seen(chunk))
        return embeddings

    def _backbone(self, chunk: Any) -> Tensor:
        """Features, in the precision of the run."""
        with torch.autocast(self.encoder.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self.encoder.features(self._seen(chunk))

    def _computed(
        self, encode: Callable[[Any], Tensor], chunks: Iterable[Any], total: int, device: torch.device, done: int = 0
    ) -> Iterator[Tensor]:
        """`encode` of each chunk, float32 [some, ...], on the CPU."""

        def parts() -> Iterator[Tensor]:
            for chunk in counted(chunks, f"embedding {self.name}s", total, f"{self.name}s", done=done):
                with torch.inference_mode():
                    yield encode(moved(chunk, device)).float()

        with evaluating(self.encoder):
            yield from arriving(parts())

    def _features(self) -> Tensor:
        """Of all entries, so that runs with other splits find them too."""
        count = len(self.items)
        return gathered(self._features_of(torch.arange(count), count), count)

    def _features_of(self, entries: Tensor, total: int) -> Iterator[Tensor]:
        """Of some of so many entries; the others were computed before."""
        chunks, done = self._chunks(entries), total - len(entries)
        return self._computed(self._backbone, chunks, total, self.encoder.device, done)

    def _kept_features(self, key: Callable[[nn.Module, str], str], about: str, count: int) -> Tensor:
        """The same of all entries, computed once and kept: the processes of this machine compute them together."""
        if self.encoder.device.type != "cpu" or self.config.precision == "bf16":
            about += f" {self.encoder.device.type} {self.config.precision}"
        compute = partial(self._features_of, total=count)
        named = key(self.encoder.backbone, about)
        return cached_features(named, count, compute, self.notes, self.local_rank, self.config.devices)


def start_rows(config: Config, encoder: Encoder, train: int) -> int:
    """How many of so many training items the start of the head is computed from; 0 where it starts at random."""
    projects = encoder.head_name == "linear" and encoder.dim <= encoder.width
    return min(train, PRINCIPAL * encoder.dim) if config.encoder.init == "pca" and projects and train > 1 else 0


class _Head(nn.Module):
    """An encoder after its backbone: features to embeddings."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.head, self.pool, self.from_features = encoder.head, encoder.pool, encoder.from_features

    def forward(self, features: Tensor) -> Tensor:
        return self.from_features(features)
