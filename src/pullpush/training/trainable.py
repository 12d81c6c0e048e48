"""What the loop and its callbacks need of that which is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from pullpush.criterion import Criterion
from pullpush.data.items import Items
from pullpush.data.sampler import ClassBalancedSampler
from pullpush.encoders import Decision, View, Views
from pullpush.encoders.compression import Compression
from pullpush.encoders.encoder import Encoder
from pullpush.encoders.rerank import Rerank
from pullpush.evaluation import CrossModal, Evaluation
from pullpush.training.costs import Costs

if TYPE_CHECKING:
    from pullpush.training.ranks import Asked, Ranks

__all__ = ["Trainable"]


class Trainable(Protocol):
    """A task as a run sees it; `task.Task` is the one of towers.

    Attributes:
        items: with their splits.
        splits: the items of each.
        encoder: of the items.
        criterion: the loss.
        sampler: of the training batches.
        costs: what learns, and the memory that this takes.
        notes: what a person should know before the first step.
        views: in which the model that is saved sees images.
        step: the module that learns: what `prepare` gives to the loss.
        encoders: the parts of it that make embeddings.
        shown: the metrics that are printed at the end.
        followed: those that are printed at each validation; log.jsonl has all.
        chosen_by: the one by which the best weights are chosen.
        ranks: of several processes, those that embed together, while they do.
    """

    items: Items
    splits: dict[str, Items]
    encoder: Encoder
    criterion: Criterion
    sampler: ClassBalancedSampler
    costs: Costs
    notes: list[str]
    views: Views
    ranks: Ranks | None

    @property
    def step(self) -> nn.Module: ...
    @property
    def encoders(self) -> Sequence[nn.Module]: ...
    @property
    def shown(self) -> tuple[str, ...]: ...
    @property
    def followed(self) -> tuple[str, ...]: ...
    @property
    def chosen_by(self) -> str: ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimiser; each group holds its own highest learning rate as `lr` and `initial_lr`."""

    def batches(self, done: int) -> Iterator[Any]:
        """Batches for the steps after `done`, the same ones whether the run was resumed there or not."""

    def prepare(self, batch: Any, device: torch.device) -> tuple[Any, ...]:
        """What `step` takes. Fills the memory where that is to be done."""

    def gradients(self, arguments: tuple[Any, ...], chunk: int, backward: Any) -> Tensor:
        """The loss of `step` and its gradients, `chunk` inputs at a time."""

    def logged(self, batch: Any) -> dict[str, float]:
        """What is logged of a batch beside its loss."""

    def embed(self, split: str, device: torch.device) -> dict[str, Tensor]:
        """Embeddings of a split by tower, [n, dim], on the CPU."""

    def embed_texts(self, split: str, device: torch.device) -> dict[str, Tensor]:
        """The same without the items: what `evaluate` needs beside `seen`."""

    def count(self, asked: Asked) -> int:
        """How many entries are asked for."""

    def part(self, asked: Asked, places: Tensor, device: torch.device) -> Tensor:
        """What is asked for, of the entries at these places among them; on the CPU."""

    def can_see(self, views: Sequence[View]) -> list[View]:
        """Those of the views that the encoder takes; none where it doesn't take images."""

    def embed_views(self, split: str, views: Sequence[View], device: torch.device) -> dict[View, Tensor]:
        """Embeddings of the images of a split in each view, [n, dim], on the CPU."""

    def evaluate(
        self, split: str, embedded: Mapping[str, Tensor], seen: tuple[Tensor, Tensor] | None = None
    ) -> Evaluation | CrossModal:
        """Retrieval by the protocol of the data; `seen`: the items as queries and as gallery, in the place of how they
        are embedded."""

    def validation_losses(self, embedded: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
        """The losses of embeddings of the validation items."""

    def queries(self) -> tuple[pd.DataFrame | None, str]:
        """What the test asks with, where that is not its items, and by which column of the items it is answered."""

    def classes_seen(self, steps: int) -> pd.DataFrame:
        """How often the sampler draws items of each class in so many steps: class, items, drawn."""

    def save_tables(self, folder: Path) -> None:
        """The tables by which embeddings are known, into the run folder."""

    def save_model(
        self,
        folder: Path,
        compression: Compression | None = None,
        decision: Decision | None = None,
        rerank: Rerank | None = None,
    ) -> None:
        """The model bundle, which says what made it, and how it is used."""
