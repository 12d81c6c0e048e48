"""Reading of a run folder: what is there, and a sentence for what is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.files import Fields, check_fields, read_json, read_jsonl, read_text, read_yaml
from pullpush.files.arrays import read_npy
from pullpush.files.tables import read_csv, read_parquet
from pullpush.reports.curves import Curve

T = TypeVar("T")
FINDING: Fields = {"step": int, "finding": str, "severity": str, "evidence": {}, "advice": str}


class Missing(Exception):
    """A part of the page is left out because a file is not there or is damaged; the message says so below the page."""


class Absent(Missing):
    """A part of the page is left out because a run like this has no such thing; nothing is said of it."""


@dataclass(frozen=True)
class Run:
    """A run folder. Each part is read when first asked for; `Missing` is raised by those that are not there.

    `damaged` are sentences about files that can't be used, whose parts are missing as well.
    """

    path: Path
    notes: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise UserError(f"Run folder not found: {self.path}. Give the folder that `pullpush train --out` wrote.")

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml as nested values."""
        return self._read("config.yaml", read_yaml)

    @cached_property
    def config_text(self) -> str:
        """config.yaml as it stands."""
        return self._read("config.yaml", read_text) if self.config else ""

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return self._read("metrics.json", _metrics)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """environment.json, what the run was trained with; empty where it is not there."""
        there = (self.path / "environment.json").is_file()
        return self._read("environment.json", lambda path: read_json(path, {})) if there else {}

    @cached_property
    def log(self) -> pd.DataFrame:
        """log.jsonl, one row a step. A resumed run logs some steps twice: the later line counts."""
        records, left_out = self._read("log.jsonl", lambda path: read_jsonl(path, {"step": int}))
        for number in left_out:
            self.notes.append(f"Line {number} of log.jsonl is cut off or damaged and was left out.")
        if left_out and not self._is_cut(left_out):
            self._note_damage(f"'log.jsonl' is damaged in {len(left_out)} lines; restore it from a copy")
        if not records:
            raise Missing("log.jsonl holds no steps.")
        numbers = [{k: v for k, v in record.items() if isinstance(v, int | float)} for record in records]
        return pd.DataFrame(numbers).groupby("step").last()

    @cached_property
    def findings(self) -> list[dict[str, Any]]:
        """findings.jsonl, what the monitor found; empty where it is not there."""
        if not (self.path / "findings.jsonl").is_file():
            return []
        records, left_out = self._read("findings.jsonl", lambda path: read_jsonl(path, FINDING))
        if left_out:
            self._note_damage(f"'findings.jsonl' is damaged in {len(left_out)} lines; restore it from a copy")
        return records

    @cached_property
    def classes_seen(self) -> NDArray[np.float64]:
        """How often items of each class were drawn, from classes_seen.csv (columns class, items, drawn)."""
        frame = self._read("classes_seen.csv", lambda path: read_csv(path, ["class", "items", "drawn"]))
        drawn = pd.to_numeric(frame["drawn"], errors="coerce").to_numpy(np.float64)
        if not len(drawn) or not np.isfinite(drawn).all():
            raise self._damage("'classes_seen.csv' is damaged: drawn is no number; restore it from a copy")
        return drawn

    def curve(self, key: str, label: str = "") -> Curve:
        """The logged values of `key` over steps."""
        if key not in self.log:
            raise Missing(f"The log has no {key}.")
        values = pd.to_numeric(self.log[key], errors="coerce").dropna()
        return Curve(label or key, values.index.to_numpy(np.float64), values.to_numpy(np.float64))

    @cached_property
    def items(self) -> Items:
        return self._read("items.parquet", Items.load)

    def split(self, name: str) -> Items:
        """The items of one split, in the order of its embeddings."""
        items = self.items.split(name)
        if not len(items):
            raise Missing(f"No item is in the split {name!r}.")
        return items

    @cached_property
    def labelled(self) -> bool:
        """Whether any class has two items: pairs of image and text without labels are a class each."""
        return bool(self.items.table["label"].duplicated().any())

    def apart(self, split: str) -> bool:
        """Whether no class of a split is in another split."""
        table = self.items.table[self.items.table["split"] != ""]
        inside = table["split"] == split
        return not table.loc[inside, "label"].isin(table.loc[~inside, "label"]).any()

    @cached_property
    def queried(self) -> str:
        """What the test split is to the model: "unseen classes", "seen classes", "unseen images", "the test split"."""
        if not self.labelled:
            return "unseen images"
        if self.apart("test"):
            return "unseen classes"
        labels = self.items.table.groupby("split")["label"].agg(set)
        return "seen classes" if labels.get("test", set()) <= labels.get("train", set()) else "the test split"

    def embeddings(self, split: str, when: str) -> NDArray[np.float32]:
        """Normalised embeddings `[n, dim]` of a split, `when` = "before" or "after" training."""
        return self._normalised(f"embeddings/{split}-{when}.npy", len(self.split(split)), "items")

    def texts(self, split: str) -> pd.DataFrame:
        """The descriptions of a split, in the order of their embeddings: `text`, `label`, `id`."""
        table = self._read("texts.parquet", lambda path: read_parquet(path, ["split", "label", "id", "text"]))
        found = table[table["split"] == split]
        if found.empty:
            raise Missing(f"No description is in the split {split!r}.")
        return found

    def text_embeddings(self, split: str, when: str) -> NDArray[np.float32]:
        """Normalised embeddings `[n, dim]` of the descriptions of a split."""
        return self._normalised(f"embeddings/{split}-{when}-text.npy", len(self.texts(split)), "descriptions")

    def matrix(self, name: str) -> NDArray[np.float32]:
        """Embeddings `[n, dim]` as they were written."""
        return self._read(f"embeddings/{name}.npy", lambda path: read_npy(path, shape=(None, None), kinds="f")).astype(
            np.float32
        )

    def _normalised(self, name: str, rows: int, what: str) -> NDArray[np.float32]:
        array = self.matrix(Path(name).stem)
        if len(array) != rows:
            raise self._damage(f"{name} has shape {array.shape}, but the split has {rows} {what}.")
        if not np.isfinite(array).all():
            raise self._damage(f"{name} holds values that are not finite.")
        return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)

    def _read(self, name: str, load: Callable[[Path], T]) -> T:
        path = self.path / name
        if not path.exists():
            raise Missing(f"{name} is not in the run folder.")
        try:
            return load(path)
        except UserError as error:
            raise self._damage(str(error).replace(f"{self.path}{os.sep}", "")) from error

    def _damage(self, sentence: str) -> Missing:
        self._note_damage(sentence)
        return Missing(sentence)

    def _note_damage(self, sentence: str) -> None:
        if sentence not in self.damaged:
            self.damaged.append(sentence)

    def _is_cut(self, left_out: list[int]) -> bool:
        """Whether of a log the last line alone is damaged, as a kill leaves it."""
        with (self.path / "log.jsonl").open("rb") as file:
            file.seek(0, os.SEEK_END)
            if not file.tell():
                return True
            file.seek(-1, os.SEEK_END)
            return len(left_out) == 1 and file.read(1) != b"\n"


def _metrics(path: Path) -> dict[str, Any]:
    """metrics.json, with what is there of the right type."""
    metrics: dict[str, Any] = read_json(path, {})
    test = metrics.get("test") or {}
    check_fields({"test": test}, {"test": {}}, path)
    for when in ("before", "after"):
        found = test.get(when) or {}
        check_fields({when: found}, {when: {}}, path)
        check_fields(found, dict.fromkeys(found, float | None), path)
    return metrics
