"""The two sides of a run: images with their encoder, descriptions with theirs. Each alone knows of frozen backbones."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pullpush.data.items import Items
from pullpush.data.sampler import BatchSampler
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.text import TextEncoder
from pullpush.maths.similarity import normalize
from pullpush.progress import counted
from pullpush.runs.config import Config
from pullpush.training.feature_cache import cached_features, features_key, texts_key
from pullpush.training.loaders import Batch, EvaluationInputs, feature_batches, image_batches

__all__ = ["SPLITS", "ImageSide", "TextSide"]

SPLITS = ("train", "validation", "test")
CHUNK = 256


class ImageSide:
    """The images of a run.

    Args:
        config: of the run.
        items: with their splits.

    Attributes:
        encoder: the whole image encoder.
        encode: what learns: the encoder, or its head where features are cached.
        features: of all items [n, width] where the backbone is frozen, else None.
        rows: split to row numbers in `features`.
        notes: what a person should know of the feature cache.
    """

    def __init__(self, config: Config, items: Items) -> None:
        self.config, self.items = config, items
        self.notes: list[str] = []
        self.splits = {name: items.split(name) for name in SPLITS}
        options = {k: v for k, v in vars(config.encoder).items() if k not in ("augment", "flip")}
        self.encoder = ImageEncoder(**options, seed=config.seed)
        self.features, self.rows = (self._features(), self._rows()) if config.encoder.freeze else (None, {})
        self.encode: nn.Module = Head(self.encoder) if config.encoder.freeze else self.encoder
        self._inputs: dict[str, EvaluationInputs] = {}

    def batches(self, sampler: BatchSampler) -> Iterator[Batch]:
        """Training batches from the sampler's position on."""
        if self.features is not None:
            return feature_batches(self.features, self.rows["train"], sampler)
        return image_batches(self.splits["train"], sampler, self.encoder.preprocessing, self.config)

    def embed(self, split: str, device: torch.device) -> Tensor:
        """Embeddings of a split [n, dim], on the CPU."""
        if self.features is not None:
            return _embed_features(self.encode, self.features[self.rows[split]], device)
        if split not in self._inputs:
            self._inputs[split] = EvaluationInputs(self.splits[split], self.encoder.preprocessing, self.config.data)
        self.encoder.eval()
        found = self._inputs[split].embed(self.encoder, device)
        self.encoder.train()
        return found

    def embed_training(self, rows: Tensor, device: torch.device) -> Tensor:
        """Embeddings of some training rows [n, dim], on the CPU."""
        if self.features is not None:
            return _embed_features(self.encode, self.features[self.rows["train"][rows]], device)
        drawn = self.splits["train"].select(rows.numpy())
        self.encoder.eval()
        found = EvaluationInputs(drawn, self.encoder.preprocessing, self.config.data).embed(self.encoder, device)
        self.encoder.train()
        return found

    def _features(self) -> Tensor:
        """Of all items, so that runs with other splits find them too."""
        encoder = self.encoder.eval()
        key = features_key(encoder.backbone, f"{encoder.name} {encoder.preprocessing}", self.items)

        def compute() -> Tensor:
            inputs = EvaluationInputs(self.items, encoder.preprocessing, self.config.data)
            return inputs.embed(encoder.features, torch.device("cpu"))

        features = cached_features(key, len(self.items), compute, self.notes)
        encoder.train()
        return features

    def _rows(self) -> dict[str, Tensor]:
        splits = self.items.table["split"].to_numpy()
        return {name: torch.from_numpy(np.flatnonzero(splits == name)) for name in SPLITS}


class TextSide:
    """The descriptions of a run.

    Args:
        config: of the run.
        items: with their splits; each item has a description or more.

    Attributes:
        encoder: the whole text encoder.
        encode: what learns: the encoder, or its head where features are cached.
        texts: the different descriptions, in order.
        of: for each training row, the numbers of its descriptions.
        table: the rows of evaluation: `split`, `label` (what a description belongs to), `id` (the first item that it
            is of), `text`, `number` (in `texts`); each description once a label.
        by: the column of the items that a text's label is of.
        features: of `texts` [n, width] where the backbone is frozen, else None.
        notes: what a person should know of the feature cache.
    """

    def __init__(self, config: Config, items: Items) -> None:
        self.notes: list[str] = []
        self.encoder = TextEncoder(
            config.text.name,
            dim=config.encoder.dim,
            head=config.text.head,
            hidden=config.text.hidden,
            dropout=config.text.dropout,
            freeze=config.text.freeze,
            seed=config.seed,
        )
        said = items.table["text"]
        self.texts = sorted({text for texts in said for text in texts})
        number = {text: place for place, text in enumerate(self.texts)}
        splits = items.table["split"].to_numpy()
        self.of = [np.array([number[t] for t in texts]) for texts in said[splits == "train"]]
        self.by = "label" if config.text.relation == "class" else "id"
        table = (
            items.table[["split", "id", "text"]].assign(label=items.table[self.by]).explode("text", ignore_index=True)
        )
        self.table: pd.DataFrame = table.drop_duplicates(["split", "label", "text"], ignore_index=True)
        self.table["number"] = self.table["text"].map(number).astype(np.int64)
        self.features = self._features() if config.text.freeze else None
        self.encode: nn.Module = Head(self.encoder) if config.text.freeze else self.encoder

    def split(self, name: str) -> pd.DataFrame:
        """The rows of a split, in the order of its embeddings."""
        return self.table[self.table["split"] == name]

    def inputs(self, numbers: Tensor) -> Tensor | list[str]:
        """What `encode` takes for these descriptions."""
        if self.features is not None:
            return self.features[numbers]
        return [self.texts[number] for number in numbers.tolist()]

    def embed(self, numbers: Tensor, device: torch.device) -> Tensor:
        """Embeddings of these descriptions [n, dim], on the CPU."""
        if self.features is not None:
            return _embed_features(self.encode, self.features[numbers], device)
        self.encoder.eval()
        found = _in_chunks(self.encoder, [self.texts[number] for number in numbers.tolist()])
        self.encoder.train()
        return found

    def _features(self) -> Tensor:
        key = texts_key(self.encoder.backbone, self.encoder.name, self.texts)
        self.encoder.eval()
        features = cached_features(
            key, len(self.texts), lambda: _in_chunks(self.encoder.features, self.texts), self.notes
        )
        self.encoder.train()
        return features


class Head(nn.Module):
    """An encoder after its backbone: features to embeddings."""

    def __init__(self, encoder: ImageEncoder | TextEncoder) -> None:
        super().__init__()
        self.head, self.normalize = encoder.head, encoder.normalize

    def forward(self, features: Tensor) -> Tensor:
        embeddings: Tensor = self.head(features)
        return normalize(embeddings) if self.normalize else embeddings


@torch.inference_mode()
def _embed_features(head: nn.Module, features: Tensor, device: torch.device) -> Tensor:
    was = head.training
    found: Tensor = head.eval()(features.to(device)).float().cpu().clone()
    head.train(was)
    return found


@torch.inference_mode()
def _in_chunks(encode: Callable[[Sequence[str]], Tensor], texts: Sequence[str]) -> Tensor:
    chunks = (texts[i : i + CHUNK] for i in range(0, len(texts), CHUNK))
    return torch.cat([encode(c).float().cpu() for c in counted(chunks, "embedding texts", len(texts), "texts")]).clone()
