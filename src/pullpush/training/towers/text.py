"""The tower of texts, of which an item may have several."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from pullpush.data.items import Items
from pullpush.data.texts import plain, text_problems
from pullpush.encoders.lora import Lora
from pullpush.encoders.text import TextEncoder
from pullpush.encoders.tuning import checkpoint_gradients, tune
from pullpush.errors import UserError
from pullpush.extras import need
from pullpush.runs.config import Config
from pullpush.training.feature_cache import texts_key
from pullpush.training.towers.base import Tower

__all__ = ["TextTower"]


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
        own = config.text
        options = {k: v for k, v in vars(own).items() if k in ("name", "head", "hidden", "dropout")}
        self.encoder = TextEncoder(**options, freeze=own.frozen, dim=config.encoder.dim, seed=config.seed)
        tune(self.encoder, own.tune, own.last_stages, Lora(**vars(config.lora)), config.seed)
        if own.gradient_checkpointing:
            checkpoint_gradients(self.encoder)
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
        return self._kept_features(partial(texts_key, texts=self.texts), self.encoder.name, len(self.texts))
