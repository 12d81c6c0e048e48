"""The one reader of a run folder: what is there, and a sentence for what is not."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.data.splits import kind_of_classes
from pullpush.errors import UserError
from pullpush.evaluation import Evaluation, evaluate_image_text, evaluate_items, protocol_for
from pullpush.files import Fields, check_fields, read_json, read_jsonl, read_text, read_yaml
from pullpush.files.arrays import read_npy
from pullpush.files.tables import read_csv, read_parquet
from pullpush.files.text import CURE
from pullpush.runs.config import RESTARTED
from pullpush.runs.neighbours import read_neighbours

__all__ = ["RUN_FILES", "Absent", "Curve", "Missing", "RunFolder", "or_else"]

RUN_FILES = ("config.yaml", "log.jsonl", "metrics.json")
"""What each run has one of, as soon as it has begun."""
T = TypeVar("T")
U = TypeVar("U")
Way = Literal["image_to_text", "text_to_image"]
GAIN: Fields = {
    "metric": str,
    "start": float,
    "trained": float,
    "difference": float,
    "error": float,
    "classes": int,
    "shown": bool,
}
FINDING: Fields = {"step": int, "finding": str, "severity": str, "evidence": {}, "advice": str}


class Missing(Exception):
    """A file is not there or is damaged; the message says so, for instance below a page."""


class Absent(Missing):
    """A run like this has no such thing; nothing needs to be said of it."""


def or_else(read: Callable[[], T], other: U) -> T | U:
    """What `read` gives, or `other` where that is missing."""
    try:
        return read()
    except Missing:
        return other


@dataclass(frozen=True)
class Curve:
    """One line: `values` at `steps` under the name `label`; both of the same length."""

    label: str
    steps: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class RunFolder:
    """A run folder. Each part is read when first asked for; `Missing` is raised by those that are not there.

    Attributes:
        path: the folder.
        cure: what to do where a file is damaged: then it raises `UserError` with this cure. Without it a damaged file
            is missing as well, and `damaged` has a sentence about it.
        notes: sentences about what was left out.
        damaged: sentences about files that can't be used.

    Raises:
        UserError: no such folder.
    """

    path: Path
    cure: str = ""
    notes: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise UserError(f"there is no run folder '{self.path}'; one is made by: pullpush train --out {self.path}")

    @classmethod
    def named(cls, path: Path | str) -> Self:
        """The run in a folder that a person names.

        Raises:
            UserError: no such folder, or no run has begun in it.
        """
        run = cls(Path(path))
        if not any((run.path / name).exists() for name in RUN_FILES):
            raise UserError(f"'{run.path}' is no run folder: it has none of {', '.join(RUN_FILES)}")
        return run

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def finished(self) -> bool:
        """Whether the run has ended: metrics.json is written last."""
        return (self.path / "metrics.json").exists()

    @cached_property
    def trained(self) -> bool:
        """Whether it was trained here: an evaluation of another model has such a folder too (`runs/evaluated.py`)."""
        return or_else(lambda: "evaluated" not in self.metrics, True)

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml as nested values; of a run that was restarted with other options, these."""
        return self._read(RESTARTED if (self.path / RESTARTED).exists() else "config.yaml", read_yaml)

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
        return self._read("environment.json", partial(read_json, fields={})) if there else {}

    @cached_property
    def log(self) -> pd.DataFrame:
        """log.jsonl, one row a step. A resumed run logs some steps twice: the later line counts."""
        records, left_out = self._read("log.jsonl", partial(read_jsonl, fields={"step": int}))
        for number in left_out:
            self.notes.append(f"Line {number} of log.jsonl is cut off or damaged and was left out.")
        # A kill leaves the last line cut off: no damage.
        if left_out and (self.cure or len(left_out) > 1 or (self.path / "log.jsonl").read_bytes().endswith(b"\n")):
            self._damage(f"'log.jsonl' is damaged in {len(left_out)} lines; {self.cure or CURE}")
        if not records:
            raise Missing("log.jsonl holds no steps.")
        numbers = [{k: v for k, v in record.items() if isinstance(v, int | float)} for record in records]
        return pd.DataFrame(numbers).groupby("step").last()

    @cached_property
    def findings(self) -> list[dict[str, Any]]:
        """findings.jsonl, what the monitor found; empty where it is not there."""
        if not (self.path / "findings.jsonl").is_file():
            return []
        records, left_out = self._read("findings.jsonl", partial(read_jsonl, fields=FINDING))
        if left_out:
            self._damage(f"'findings.jsonl' is damaged in {len(left_out)} lines; {self.cure or CURE}")
        return records

    @cached_property
    def classes_seen(self) -> NDArray[np.float64]:
        """How often items of each class were drawn, from classes_seen.csv (columns class, items, drawn)."""
        frame = self._read("classes_seen.csv", partial(read_csv, columns=["class", "items", "drawn"]))
        drawn: NDArray[np.float64] = pd.to_numeric(frame["drawn"], errors="coerce").to_numpy(np.float64)
        if not len(drawn) or not np.isfinite(drawn).all():
            raise self._damage(f"'classes_seen.csv' is damaged: drawn is no number; {self.cure or CURE}")
        return drawn

    def curve(self, key: str, label: str = "") -> Curve:
        """The logged values of `key` over steps."""
        if key not in self.log:
            raise Missing(f"The log has no {key}.")
        values = pd.to_numeric(self.log[key], errors="coerce").dropna()
        return Curve(label or key, values.index.to_numpy(np.float64), values.to_numpy(np.float64))

    @cached_property
    def items(self) -> Items:
        return self._read("items.parquet", lambda path, cure: Items.load(path))

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
        """What the test split is to the model: "unseen classes", "seen classes", "unseen images", "the test split"; of
        one that was not trained here "the data", as nobody knows which classes it has seen."""
        if not self.trained:
            return "the data"
        if not self.labelled:
            return "unseen images"
        kinds = {"unseen": "unseen classes", "seen": "seen classes", "mixed": "the test split"}
        return kinds[kind_of_classes(self.items, "test")]

    def embeddings(self, split: str, when: str) -> NDArray[np.float32]:
        """Normalised embeddings `[n, dim]` of a split, `when` = "before" or "after" training."""
        return self._normalised(f"embeddings/{split}-{when}.npy", len(self.split(split)), "items")

    def evaluation(self, split: str, when: str) -> Evaluation:
        """What images of a split find among themselves, with row numbers of the split: as training saved it, of older
        runs computed from the embeddings. `Absent` where nothing can be found."""
        items = self.split(split)

        def again() -> Evaluation:
            protocol = replace(protocol_for(items), draws=0)
            return evaluate_items(self.embeddings(split, when), items, protocol, nmi=False)

        return self._evaluation(f"{split}-{when}", len(items), len(items), again)

    def cross_modal(self, split: str, when: str, way: Way) -> Evaluation:
        """What texts find among the images of a split, or images among the texts; as `evaluation`."""
        items, texts = self.split(split).table, self.texts(split)
        rows = {"image": len(items), "text": len(texts)}
        queries, gallery = (rows[kind] for kind in way.split("_to_"))

        def again() -> Evaluation:
            match = items["id" if (texts["label"] == texts["id"]).all() else "label"].to_numpy()
            images, embedded_texts = self.embeddings(split, when), self.text_embeddings(split, when)
            result = evaluate_image_text(images, match, embedded_texts, texts["label"].to_numpy())
            return result.image_to_text if way == "image_to_text" else result.text_to_image

        return self._evaluation(f"{split}-{when}-{way}", queries, gallery, again)

    def _evaluation(self, name: str, queries: int, gallery: int, again: Callable[[], Evaluation]) -> Evaluation:
        name = f"neighbours/{name}.npz"
        if (self.path / name).exists():
            return self._read(name, partial(read_neighbours, queries=queries, gallery=gallery))
        try:
            return again()
        except UserError as error:
            raise Absent(str(error)) from None

    def texts(self, split: str) -> pd.DataFrame:
        """The texts of a split, in the order of their embeddings: `text`, `label`, `id`."""
        table = self._read("texts.parquet", partial(read_parquet, columns=["split", "label", "id", "text"]))
        rows = table[table["split"] == split]
        if rows.empty:
            raise Missing(f"No text is in the split {split!r}.")
        return rows

    def text_embeddings(self, split: str, when: str) -> NDArray[np.float32]:
        """Normalised embeddings `[n, dim]` of the texts of a split."""
        return self._normalised(f"embeddings/{split}-{when}-text.npy", len(self.texts(split)), "texts")

    def matrix(self, name: str) -> NDArray[np.float32]:
        """Embeddings `[n, dim]` as they were written."""
        read = partial(read_npy, shape=(None, None), kinds="f")
        return np.asarray(self._read(f"embeddings/{name}.npy", read), np.float32)

    def _normalised(self, name: str, rows: int, what: str) -> NDArray[np.float32]:
        array = self.matrix(Path(name).stem)
        if len(array) != rows:
            raise self._damage(f"{name} has shape {array.shape}, but the split has {rows} {what}.")
        if not np.isfinite(array).all():
            raise self._damage(f"{name} holds values that are not finite.")
        return np.asarray(array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12), np.float32)

    def _read(self, name: str, load: Callable[..., T]) -> T:
        path = self.path / name
        if not path.exists():
            raise Missing(f"{name} is not in the run folder.")
        try:
            return load(path, cure=self.cure or CURE)
        except UserError as error:
            if self.cure:
                raise
            raise self._damage(str(error).replace(f"{self.path}{os.sep}", "")) from error

    def _damage(self, sentence: str) -> Missing:
        if self.cure:
            raise UserError(f"{str(self.path)!r}: {sentence}")
        if sentence not in self.damaged:
            self.damaged.append(sentence)
        return Missing(sentence)


def _metrics(path: Path, cure: str) -> dict[str, Any]:
    """metrics.json, with what is there of the right type."""
    metrics: dict[str, Any] = read_json(path, {}, cure)
    test = metrics.get("test") or {}
    check_fields({"test": test}, {"test": {}}, path, cure)
    for when in ("before", "after"):
        values = test.get(when) or {}
        check_fields({when: values}, {when: {}}, path, cure)
        check_fields(values, dict.fromkeys(values, float | None), path, cure)
    if metrics.get("gain"):
        check_fields(metrics, {"kept": str, "gain": GAIN}, path, cure)
    return metrics
