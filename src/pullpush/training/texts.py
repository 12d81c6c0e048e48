"""The task of training with images and descriptions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pullpush.criterion import Criterion
from pullpush.data.captions import plain
from pullpush.data.check import text_problems
from pullpush.data.items import Items
from pullpush.encoders import text
from pullpush.encoders.towers import TwoTowers
from pullpush.errors import UserError
from pullpush.evaluation import CrossModal, evaluate_image_text, evaluate_items
from pullpush.runs.config import Config
from pullpush.runs.folder import save_items, save_texts
from pullpush.training.images import (
    Embedded,
    Rows,
    classes_drawn,
    drawn_rows,
    save_bundle,
    validation_losses,
    with_criterion,
)
from pullpush.training.setup import compact_labels, make_criterion, make_sampler
from pullpush.training.step import PairStep
from pullpush.training.towers import ImageSide, TextSide

__all__ = ["ImageTextTask"]

# Image inputs, row numbers in the training table, the description drawn for each.
PairBatch = tuple[Tensor, Tensor, Tensor]
# A description is never the item that it describes: ids differ by this.
TEXT_IDS = 1 << 48


class ImageTextTask:
    """Images and descriptions to embeddings in one space.

    Each step takes images as the class-balanced sampler draws them, and one description of each.

    Args:
        config: of the run.
        items: with their splits and descriptions.
        rank, world: which process of how many.

    Attributes:
        chosen_by: the metric of the best checkpoint; recall@10 is at its height long before recall@1.
        shown: the metrics that are printed at the end.
        followed: those that are printed at each validation; log.jsonl has all.

    Raises:
        UserError: data without descriptions, a loss with class proxies.
    """

    chosen_by = "text_to_image/recall@1"
    shown = ("text_to_image/recall@1", "text_to_image/recall@10", "image_to_text/recall@1")
    followed = ("text_to_image/recall@1", "image_to_text/recall@1", "loss_miner")

    def __init__(self, config: Config, items: Items, rank: int = 0, world: int = 1) -> None:
        self.items, self.notes = _described(items)
        self.items = self.items.assign()
        shared = text_problems(self.items, "label" if config.text.relation == "class" else "id")
        self.items.notes += shared  # for the report too
        self.notes += shared
        self.config, self.rank = config, rank
        if config.loss.traits.proxies:
            raise UserError(
                f"loss {config.loss.name!r} compares with class proxies, not with descriptions: give --loss n_pair, "
                "nt_xent, siglip, triplet, circle or any other without proxies"
            )
        text.require()  # before all images are embedded
        self.side, self.texts = ImageSide(config, self.items), TextSide(config, self.items)
        self.splits, self.encoder = self.side.splits, self.side.encoder
        self.towers = TwoTowers(self.side.encoder, self.texts.encoder)
        train = self.splits["train"]
        self.ids, self.text_ids = train.ids, train.ids + TEXT_IDS
        self.labels = compact_labels(train.labels)
        self.match = self._match(train)
        apart = config.text.duplicates == "apart"
        keys = [frozenset(map(plain, texts)) for texts in train.table["text"]] if apart else None
        self.sampler = make_sampler(config, self.labels, rank, world, keys)
        self.notes += [*self.side.notes, *self.texts.notes, *self.sampler.notes]
        keyed = {text: place for place, text in enumerate(dict.fromkeys(map(plain, self.texts.texts)))}
        self._key = torch.tensor([keyed[plain(text)] for text in self.texts.texts])
        self.criterion = make_criterion(config, classes=0, ids=self.ids, text_ids=self.text_ids)
        self.all_pairs = make_criterion(config, classes=0, ids=self.ids, text_ids=self.text_ids, training=False)
        self.step = PairStep(self.side.encode, self.texts.encode, self.criterion)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimiser; each group holds its own highest learning rate."""
        o = self.config.optimizer
        groups = self.towers.parameter_groups(
            o.lr,
            backbone_scale=o.backbone_scale,
            text_scale=self.config.text.lr_scale,
            weight_decay=o.weight_decay,
        )
        return with_criterion(groups, self.criterion, self.config)

    def batches(self, done: int) -> Iterator[PairBatch]:
        """Batches for the steps after `done`."""
        self.sampler.seek(done)
        for step, (inputs, rows) in enumerate(self.side.batches(self.sampler), done):
            yield inputs, rows, self._drawn(rows, step)

    def arguments(self, batch: PairBatch, device: torch.device) -> tuple[Any, ...]:
        """What `step` takes."""
        inputs, rows, numbers = batch
        texts = self.texts.inputs(numbers)
        texts = texts.to(device) if isinstance(texts, Tensor) else texts
        labels = torch.stack([self.match[rows], self._key[numbers]], 1)
        return inputs.to(device), texts, labels.to(device), self.ids[rows].to(device), self.text_ids[rows].to(device)

    def logged(self, batch: PairBatch) -> dict[str, float]:
        """Of a batch, the share of descriptions that stand beside an item which they do not belong to as well."""
        _, rows, numbers = batch
        match, key = self.match[rows], self._key[numbers]
        twice = (key[:, None] == key[None]) & (match[:, None] != match[None])
        return {"train/duplicates": float(twice.any(1).double().mean())}

    def fill_memory(self, device: torch.device) -> None:
        """With `memory.fill`, once, before the first step that reads the memory: embeddings of a seeded draw of
        training items and of a description of each, by the model as it is in use."""
        held = [m for m in (self.criterion.memory, self.criterion.reverse_memory) if m is not None]
        if not held or not self.config.memory.fill or not (held[0].warm and held[0].empty):
            return
        rows = drawn_rows(len(self.ids), held[0].size, self.config.seed)
        numbers = self._drawn(rows, 0)
        labels = torch.stack([self.match[rows], self._key[numbers]], 1)
        if self.criterion.memory is not None:
            found = self.texts.embed(numbers, device)
            self.criterion.memory.fill(nn.Identity(), [(found, labels, self.text_ids[rows])])
        if self.criterion.reverse_memory is not None:
            found = self.side.embed_training(rows, device)
            self.criterion.reverse_memory.fill(nn.Identity(), [(found, labels, self.ids[rows])])

    def embed(self, split: str, device: torch.device) -> Embedded:
        """Embeddings of a split, on the CPU: images in the order of its items, texts in that of its descriptions."""
        numbers = torch.tensor(self.texts.split(split)["number"].to_numpy())
        return {"image": self.side.embed(split, device), "text": self.texts.embed(numbers, device)}

    def evaluate(self, split: str, embedded: Embedded) -> CrossModal:
        """Both directions, over all descriptions; and among the images alone where classes have several."""
        items, texts = self.splits[split], self.texts.split(split)
        match, belongs = self._match(items), texts["label"].to_numpy()
        found = evaluate_image_text(embedded["image"], match, embedded["text"], belongs)
        if len(items.labels.unique()) == len(items):
            return found
        return found.with_images(evaluate_items(embedded["image"], items, nmi=False))

    def validate(self, device: torch.device) -> dict[str, float]:
        """Metrics on the validation classes, and the loss there: on batches as in training, on these without the miner,
        and over all pairs."""
        items = self.splits["validation"]
        if not len(items):
            return {}
        embedded = self.embed("validation", device)
        found = self.evaluate("validation", embedded).metrics
        # The first description of each item.
        match, texts = self._match(items), self.texts.split("validation")
        place = {pair: row for row, pair in enumerate(zip(texts["label"], texts["text"], strict=True))}
        first = [place[int(label), said[0]] for label, said in zip(match, items.table["text"], strict=True)]
        keys = self._key[torch.tensor(texts["number"].to_numpy()[first])]
        labels, ids = torch.stack([match, keys], 1).to(device), items.ids.to(device)
        images, said = embedded["image"].to(device), embedded["text"][first].to(device)

        def loss(criterion: Criterion, rows: Rows) -> Tensor:
            value: Tensor = criterion(
                images[rows],
                labels[rows],
                ids[rows],
                references=said[rows],
                reference_labels=labels[rows],
                reference_ids=ids[rows] + TEXT_IDS,
            )
            return value

        all_pairs = self.all_pairs.to(device)
        return {**found, **validation_losses(self.criterion, all_pairs, items.labels, self.sampler, loss)}

    def queries(self) -> tuple[pd.DataFrame, str]:
        """As of `ImageTask`."""
        return self.texts.split("test"), self.texts.by

    def classes_seen(self, steps: int) -> pd.DataFrame:
        """How often the sampler draws items of each class in so many steps: class, items, drawn."""
        return classes_drawn(self.sampler, self.splits["train"], steps)

    def save_tables(self, folder: Path) -> None:
        """The item table with its splits, and the descriptions in the order of their embeddings."""
        save_items(folder, self.items)
        save_texts(folder, self.texts.table.drop(columns="number"))

    def save_model(self, folder: str) -> None:
        """The bundle, with both towers."""
        save_bundle(folder, self.config, self.items, self.towers.image, self.towers.text)

    def _match(self, items: Items) -> Tensor:
        return items.labels if self.config.text.relation == "class" else items.ids

    def _drawn(self, rows: Tensor, step: int) -> Tensor:
        """A description for each row, by the seed, the step and the rank alone."""
        draw = np.random.default_rng([self.config.seed, step, self.rank, 2]).random(len(rows))
        of = [self.texts.of[row] for row in rows.tolist()]
        return torch.tensor([own[int(u * len(own))] for own, u in zip(of, draw, strict=True)])


def _described(items: Items) -> tuple[Items, list[str]]:
    """The items that have a description, and a sentence about the others."""
    said = items.table["text"].map(len).to_numpy() > 0
    if not said.any():
        raise UserError(
            f"{items.name} has no descriptions: give a manifest with a column 'text', a folder with captions.csv or a "
            "caption file (photo.txt) beside each image, or leave --task image-text away"
        )
    if said.all():
        return items, []
    return items.select(said), [f"{int((~said).sum())} items have no description and are left out"]
