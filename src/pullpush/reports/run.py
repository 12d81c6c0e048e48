"""Reading of a run folder: what is there, and a sentence for what is not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.reports.curves import Curve


class Missing(Exception):
    """A part of the report cannot be drawn; the message is the sentence that stands in its place."""


@dataclass(frozen=True)
class Run:
    """A run folder. Each part is read when first asked for; `Missing` is raised by those that are not there."""

    path: Path
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise UserError(f"Run folder not found: {self.path}. Give the folder that `pullpush train --out` wrote.")

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @cached_property
    def config_text(self) -> str:
        """config.yaml as it stands."""
        return self._file("config.yaml").read_text(encoding="utf-8")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        path = self._file("metrics.json")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise Missing(f"metrics.json is not JSON: {error}") from None

    @cached_property
    def environment(self) -> dict[str, Any]:
        """environment.json, what the run was trained with; empty where it is not there."""
        path = self.path / "environment.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @cached_property
    def log(self) -> pd.DataFrame:
        """log.jsonl, one row a step. A resumed run logs some steps twice: the later line counts."""
        lines = self._file("log.jsonl").read_text(encoding="utf-8").splitlines()
        records = []
        for number, line in enumerate(lines):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                self.notes.append(f"Line {number + 1} of log.jsonl is cut off or damaged and was left out.")
        frame = pd.DataFrame([r for r in records if isinstance(r, dict) and "step" in r])
        if frame.empty:
            raise Missing("log.jsonl holds no steps.")
        return frame.groupby("step").last()

    def curve(self, key: str, label: str = "") -> Curve:
        """The logged values of `key` over steps."""
        if key not in self.log:
            raise Missing(f"The log has no {key}.")
        values = pd.to_numeric(self.log[key], errors="coerce").dropna()
        return Curve(label or key, values.index.to_numpy(np.float64), values.to_numpy(np.float64))

    @cached_property
    def items(self) -> Items:
        return Items.load(self._file("items.parquet"))

    def split(self, name: str) -> Items:
        """The items of one split, in the order of its embeddings."""
        items = self.items.split(name)
        if not len(items):
            raise Missing(f"No item is in the split {name!r}.")
        return items

    def embeddings(self, split: str, when: str) -> NDArray[np.float32]:
        """Normalised embeddings `[n, dim]` of a split, `when` = "before" or "after" training."""
        path = self._file(f"embeddings/{split}-{when}.npy")
        array = np.load(path).astype(np.float32)
        rows = len(self.split(split))
        if array.ndim != 2 or len(array) != rows:
            raise Missing(f"embeddings/{path.name} has shape {array.shape}, but the split {split!r} has {rows} items.")
        if not np.isfinite(array).all():
            raise Missing(f"embeddings/{path.name} holds values that are not finite.")
        return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)

    def texts(self, split: str) -> pd.DataFrame:
        """The descriptions of a split, in the order of their embeddings: `text`, `label`, `id`."""
        table = pd.read_parquet(self._file("texts.parquet"))
        found = table[table["split"] == split]
        if found.empty:
            raise Missing(f"No description is in the split {split!r}.")
        return found

    def text_embeddings(self, split: str, when: str) -> NDArray[np.float32]:
        """Normalised embeddings `[n, dim]` of the descriptions of a split."""
        path = self._file(f"embeddings/{split}-{when}-text.npy")
        array = np.load(path).astype(np.float32)
        rows = len(self.texts(split))
        if array.ndim != 2 or len(array) != rows or not np.isfinite(array).all():
            raise Missing(f"embeddings/{path.name} of shape {array.shape} does not fit the {rows} descriptions.")
        return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)

    def _file(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise Missing(f"{name} is not in the run folder.")
        return path
