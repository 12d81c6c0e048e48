"""The task of training with images and classes."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pullpush.data.items import Items
from pullpush.data.sampler import ClassBalancedSampler, seen_per_class
from pullpush.encoders import bundle
from pullpush.encoders.image import ImageEncoder
from pullpush.evaluation import evaluate_items
from pullpush.training.config import Config
from pullpush.training.features import cached_features, features_key
from pullpush.training.inputs import Batch, EvaluationInputs, feature_batches, image_batches
from pullpush.training.setup import compact_labels, make_criterion
from pullpush.training.step import ImageStep

__all__ = ["ImageTask"]


class ImageTask:
    """Images to embeddings, trained by class.

    Args:
        config: of the run.
        items: with their splits.
        rank, world: which process of how many.
    """

    def __init__(self, config: Config, items: Items, rank: int = 0, world: int = 1) -> None:
        self.config, self.items = config, items
        self.splits = {name: items.split(name) for name in ("train", "validation", "test")}
        train = self.splits["train"]
        self.labels, self.ids = compact_labels(train.labels), train.ids
        classes = int(self.labels.max()) + 1
        options = {k: v for k, v in vars(config.encoder).items() if k not in ("augment", "flip")}
        self.encoder = ImageEncoder(**options, seed=config.seed)
        batch = config.batch
        self.sampler = ClassBalancedSampler(
            self.labels,
            batch.classes,
            batch.samples,
            seed=config.seed,
            rank=rank,
            world=world,
            short=batch.short,
            passes=None,
        )
        self.criterion = make_criterion(config, classes=classes, ids=train.ids)
        self.all_pairs = (
            None if self.criterion.proxies else make_criterion(config, classes=0, ids=train.ids, training=False)
        )
        self.features, self.rows = (self._features(), self._rows()) if config.encoder.freeze else (None, {})
        encode = _Head(self.encoder) if config.encoder.freeze else self.encoder
        self.step = ImageStep(encode, self.criterion)
        self._inputs: dict[str, EvaluationInputs] = {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimiser; each group holds its own highest learning rate."""
        o = self.config.optimizer
        groups = self.encoder.parameter_groups(o.lr, backbone_scale=o.backbone_scale, weight_decay=o.weight_decay)
        learned = list(self.criterion.parameters())
        rate = o.lr * o.criterion_scale
        if learned:
            groups.append({"name": "criterion", "params": learned, "lr": rate, "weight_decay": 0.0})
        return [{**group, "initial_lr": group["lr"]} for group in groups]

    def batches(self, done: int) -> Iterator[Batch]:
        """Batches for the steps after `done`."""
        self.sampler.seek(done)
        if self.features is not None:
            return feature_batches(self.features, self.rows["train"], self.sampler)
        return image_batches(self.splits["train"], self.sampler, self.encoder.preprocessing, self.config)

    def arguments(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """What `step` takes."""
        inputs, rows = batch
        return inputs.to(device), self.labels[rows].to(device), self.ids[rows].to(device)

    def fill_memory(self, device: torch.device) -> None:
        """With `memory.fill`, once, before the first step that reads the memory: embeddings of a seeded draw of
        training items by the model as it is in use."""
        memory = self.criterion.memory
        if memory is None or not self.config.memory.get("fill") or not (memory.warm and memory.empty):
            return
        generator = torch.Generator().manual_seed(self.config.seed)
        rows = torch.randperm(len(self.ids), generator=generator)[: memory.size].sort().values
        if self.features is not None:
            with torch.no_grad():
                found = self.step.encode(self.features[self.rows["train"][rows]].to(device))
        else:
            drawn = self.splits["train"].select(rows.numpy())
            self.encoder.eval()
            found = EvaluationInputs(drawn, self.encoder.preprocessing, self.config.data).embed(self.encoder, device)
            self.encoder.train()
        memory.fill(nn.Identity(), [(found, self.labels[rows], self.ids[rows])])

    def embed(self, split: str, device: torch.device) -> Tensor:
        """Embeddings of a split [n, dim], on the CPU."""
        if self.features is not None:
            with torch.inference_mode():
                return self.step.encode(self.features[self.rows[split]].to(device)).float().cpu().clone()
        if split not in self._inputs:
            self._inputs[split] = EvaluationInputs(self.splits[split], self.encoder.preprocessing, self.config.data)
        self.encoder.eval()
        found = self._inputs[split].embed(self.encoder, device)
        self.encoder.train()
        return found

    def evaluate(self, split: str, embeddings: Tensor) -> dict[str, float]:
        """Retrieval metrics by the protocol of the data."""
        return dict(evaluate_items(embeddings, self.splits[split], nmi=split == "test" and self.config.nmi).metrics)

    def validate(self, device: torch.device) -> dict[str, float]:
        """Metrics on the validation classes, and the loss there: on batches as in training, on these without the miner,
        and over all pairs."""
        items = self.splits["validation"]
        if not len(items):
            return {}
        embeddings = self.embed("validation", device)
        found = self.evaluate("validation", embeddings)
        return {**found, **self._validation_losses(embeddings.to(device), items, device)}

    def _validation_losses(self, embeddings: Tensor, items: Items, device: torch.device) -> dict[str, float]:
        if self.all_pairs is None:
            return {}  # proxies stand for training classes only
        labels, ids = items.labels.to(device), items.ids.to(device)
        batch = self.config.batch
        classes = min(batch.classes, len(items.labels.unique()))
        sampler = ClassBalancedSampler(items.labels, classes, batch.samples, seed=self.config.seed)
        criterion, everything = self.criterion.eval(), self.all_pairs.to(device)
        everything.learned.load_state_dict(criterion.learned.state_dict())
        with torch.no_grad():
            batches = [(embeddings[rows], labels[rows], ids[rows]) for rows in sampler]
            found = {
                "loss_miner": sum(float(criterion(*batch)) for batch in batches) / len(batches),
                "loss_no_miner": sum(float(everything(*batch)) for batch in batches) / len(batches),
                "loss_all": float(everything(embeddings, labels, ids)),
            }
        criterion.train()
        return found

    def classes_seen(self, steps: int) -> pd.DataFrame:
        """How often the sampler draws items of each class in so many steps: class, items, drawn."""
        train = self.splits["train"]
        labels, sizes, drawn = seen_per_class(self.sampler, train.labels, steps)
        return pd.DataFrame({"class": [train.classes[label] for label in labels], "items": sizes, "drawn": drawn})

    def save_model(self, folder: str) -> None:
        """The bundle."""
        about = {"task": self.config.task, "data": self.items.name, "loss": json.dumps(self.config.loss)}
        bundle.save(folder, self.encoder, extra=about, replace=True)

    def _features(self) -> Tensor:
        """Of all items, so that runs with other splits find them too."""
        encoder = self.encoder.eval()
        key = features_key(encoder.backbone, f"{encoder.name} {encoder.preprocessing}", self.items)

        def compute() -> Tensor:
            inputs = EvaluationInputs(self.items, encoder.preprocessing, self.config.data)
            return inputs.embed(encoder.features, torch.device("cpu"))

        features = cached_features(key, compute)
        encoder.train()
        return features

    def _rows(self) -> dict[str, Tensor]:
        splits = self.items.table["split"].to_numpy()
        return {name: torch.from_numpy(np.flatnonzero(splits == name)) for name in self.splits}


class _Head(nn.Module):
    """The encoder after its backbone: features to embeddings."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.head, self.normalize = encoder.head, encoder.normalize

    def forward(self, features: Tensor) -> Tensor:
        embeddings = self.head(features)
        return normalize(embeddings, dim=-1) if self.normalize else embeddings
