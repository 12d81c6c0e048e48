"""The task of training with images and classes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from pullpush.criterion import Criterion
from pullpush.data.items import Items
from pullpush.data.sampler import BatchSampler, ClassBalancedSampler, seen_per_class
from pullpush.encoders import ImageEncoder, TextEncoder, bundle
from pullpush.evaluation import Evaluation, evaluate_items
from pullpush.evaluation.protocols import protocol_for
from pullpush.runs.config import Config
from pullpush.runs.folder import save_items
from pullpush.training.loaders import Batch
from pullpush.training.setup import compact_labels, make_criterion, make_sampler
from pullpush.training.step import ImageStep
from pullpush.training.towers import ImageSide

__all__ = ["ImageTask"]


Rows = slice | list[int]
# What a side is called, to its embeddings [n, dim].
Embedded = dict[str, Tensor]


class ImageTask:
    """Images to embeddings, trained by class.

    Args:
        config: of the run.
        items: with their splits.
        rank, world: which process of how many.

    Attributes:
        chosen_by: the metric of the best checkpoint: map@r looks at all positives, recall@1 at the nearest only.
        shown: the metrics that are printed at the end.
        followed: those that are printed at each validation; log.jsonl has all.
    """

    chosen_by = "map@r"
    shown: tuple[str, ...] = ("recall@1", "map@r")
    followed: tuple[str, ...] = ("recall@1", "recall@10", "map@r", "loss_miner", "loss_all")

    def __init__(self, config: Config, items: Items, rank: int = 0, world: int = 1) -> None:
        self.config, self.items, self.side = config, items, ImageSide(config, items)
        self.encoder, self.splits = self.side.encoder, self.side.splits
        self.features, self.rows = self.side.features, self.side.rows
        if protocol_for(items).draws:  # VehicleID: a figure without its way says little
            self.shown = self.followed = ("all_against_all/recall@1", "one_gallery_image/recall@1")
        train = self.splits["train"]
        self.labels, self.ids = compact_labels(train.labels), train.ids
        classes = int(self.labels.max()) + 1
        self.sampler = make_sampler(config, self.labels, rank, world)
        self.criterion = make_criterion(config, classes=classes, ids=train.ids)
        self.all_pairs = (
            None if self.criterion.proxies else make_criterion(config, classes=0, ids=train.ids, training=False)
        )
        self.step = ImageStep(self.side.encode, self.criterion)
        self.notes = [*self.side.notes, *self.sampler.notes]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimiser; each group holds its own highest learning rate."""
        o = self.config.optimizer
        groups = self.encoder.parameter_groups(o.lr, backbone_scale=o.backbone_scale, weight_decay=o.weight_decay)
        return with_criterion(groups, self.criterion, self.config)

    def batches(self, done: int) -> Iterator[Batch]:
        """Batches for the steps after `done`."""
        self.sampler.seek(done)
        return self.side.batches(self.sampler)

    def arguments(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """What `step` takes."""
        inputs, rows = batch
        return inputs.to(device), self.labels[rows].to(device), self.ids[rows].to(device)

    def fill_memory(self, device: torch.device) -> None:
        """With `memory.fill`, once, before the first step that reads the memory: embeddings of a seeded draw of
        training items by the model as it is in use."""
        memory = self.criterion.memory
        if memory is None or not self.config.memory.fill or not (memory.warm and memory.empty):
            return
        rows = drawn_rows(len(self.ids), memory.size, self.config.seed)
        found = self.side.embed_training(rows, device)
        memory.fill(nn.Identity(), [(found, self.labels[rows], self.ids[rows])])

    def logged(self, batch: Batch) -> dict[str, float]:
        """What is logged of a batch beside its loss."""
        return {}

    def embed(self, split: str, device: torch.device) -> Embedded:
        """Embeddings of a split [n, dim], on the CPU."""
        return {"image": self.side.embed(split, device)}

    def evaluate(self, split: str, embedded: Embedded) -> Evaluation:
        """Retrieval by the protocol of the data."""
        return evaluate_items(embedded["image"], self.splits[split], nmi=split == "test" and self.config.nmi)

    def validate(self, device: torch.device) -> dict[str, float]:
        """Metrics on the validation classes, and the loss there: on batches as in training, on these without the miner,
        and over all pairs."""
        items = self.splits["validation"]
        if not len(items):
            return {}
        embedded = self.embed("validation", device)
        found = self.evaluate("validation", embedded).metrics
        if self.all_pairs is None:
            return found  # proxies stand for training classes only
        embeddings, labels, ids = embedded["image"].to(device), items.labels.to(device), items.ids.to(device)

        def loss(criterion: Criterion, rows: Rows) -> Tensor:
            value: Tensor = criterion(embeddings[rows], labels[rows], ids[rows])
            return value

        return {
            **found,
            **validation_losses(self.criterion, self.all_pairs.to(device), items.labels, self.sampler, loss),
        }

    def queries(self) -> tuple[pd.DataFrame | None, str]:
        """What the test asks with, where that is not its items, and by which column of the items it is answered."""
        return None, "label"

    def classes_seen(self, steps: int) -> pd.DataFrame:
        """How often the sampler draws items of each class in so many steps: class, items, drawn."""
        return classes_drawn(self.sampler, self.splits["train"], steps)

    def save_tables(self, folder: Path) -> None:
        """The item table with its splits."""
        save_items(folder, self.items)

    def save_model(self, folder: str) -> None:
        """The bundle."""
        save_bundle(folder, self.config, self.items, self.encoder)


def save_bundle(
    folder: str, config: Config, items: Items, image: ImageEncoder, text: TextEncoder | None = None
) -> None:
    """The bundle of a run, which says what made it."""
    about = {"task": config.task, "data": items.name, "loss": json.dumps(config.loss.named())}
    bundle.save(folder, image, text, extra=about, replace=True, then=f"then go on with --resume {Path(folder).parent}")


def with_criterion(groups: list[dict[str, Any]], criterion: Criterion, config: Config) -> list[dict[str, Any]]:
    """The groups of the encoders and that of what the criterion learns, each with its highest rate."""
    learned, rate = list(criterion.parameters()), config.optimizer.lr * config.optimizer.criterion_scale
    if learned:
        groups = [*groups, {"name": "criterion", "params": learned, "lr": rate, "weight_decay": 0.0}]
    return [{**group, "initial_lr": group["lr"]} for group in groups]


def drawn_rows(rows: int, most: int, seed: int) -> Tensor:
    """A seeded draw of at most so many rows, in order."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:most].sort().values


def classes_drawn(sampler: BatchSampler, train: Items, steps: int) -> pd.DataFrame:
    """How often the sampler draws items of each class in so many steps: class, items, drawn."""
    labels, sizes, drawn = seen_per_class(sampler, train.labels, steps)
    return pd.DataFrame({"class": [train.classes[label] for label in labels], "items": sizes, "drawn": drawn})


def validation_losses(
    criterion: Criterion,
    everything: Criterion,
    labels: Tensor,
    training: ClassBalancedSampler,
    loss: Callable[[Criterion, Rows], Tensor],
) -> dict[str, float]:
    """The loss on validation items.

    Args:
        criterion: of the run; left in training mode.
        everything: the same without miner and memory.
        labels: classes of the items [n].
        training: the sampler of the run, whose batches are like those here.
        loss: the loss of a criterion on some rows.
    """
    classes = min(training.classes, len(labels.unique()))
    sampler = ClassBalancedSampler(labels, classes, training.samples, seed=training.seed)
    criterion.eval()
    everything.learned.load_state_dict(criterion.learned.state_dict())
    with torch.no_grad():
        batches = list(sampler)
        found = {
            "loss_miner": sum(float(loss(criterion, rows)) for rows in batches) / len(batches),
            "loss_no_miner": sum(float(loss(everything, rows)) for rows in batches) / len(batches),
            "loss_all": float(loss(everything, slice(None))),
        }
    criterion.train()
    return found
