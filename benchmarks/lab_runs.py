"""One run of the lab: a setting on a data set with a seed."""

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lab_settings import DataSet
from pullpush.data.images import load_pixels
from pullpush.data.items import BOX, Items
from pullpush.files import read_json, read_jsonl, write_bytes
from pullpush.images.files import idx_bytes
from pullpush.runs.config import Config
from pullpush.runs.log import LOG
from pullpush.runs.options import config_from
from pullpush.training.cpu import flushed_denormals, keep_freed_memory
from pullpush.training.loop import make_items, read_items, train
from pullpush.training.task import Task
from pullpush.training.towers import MARGIN

__all__ = ["METRICS", "Run", "measured", "packed"]

METRICS = ("recall@1", "map@r")
# Of all runs: nothing is drawn or looked at that the lab does not ask for.
BASE: Mapping[str, Any] = {
    **{"report": False, "tensorboard": False, "nmi": False, "data.check": False, "data.cache": "yes"},
    "views.choose": "none",
    "rerank": "none",
    "table": False,
}
# What a result does not depend on; and the data, which are told by their pixels.
LEFT_OUT = (
    "data",
    "text",
    "seed",
    "out",
    "report",
    "tensorboard",
    "trackers",
    "nmi",
    "checkpoint_every",
    "device",
    "views",
)
# Options that runs have had since; where they are off a run is what it was.
SINCE = ("matryoshka",)
# What a loop of PML takes of a run's options.
OF_PML = ("encoder", "batch", "optimizer", "steps", "validate_every")


@dataclass(frozen=True)
class Run:
    """One run of the lab.

    Attributes:
        set: its name in the results.
        data: the data set.
        setting: its name in the results.
        options: of the setting.
        seed: of classes, batches, augmentation and head: runs of a seed differ in their setting alone.
        steps: of the optimiser.
        size: side of the images in pixels.
        folder: of the lab, for the packed data, and for files of the run while it goes.
        device: cpu or cuda.
    """

    set: str
    data: DataSet
    setting: str
    options: Mapping[str, Any]
    seed: int
    steps: int
    size: int
    folder: Path
    device: str = "cpu"

    @property
    def name(self) -> str:
        return f"{self.set}/{self.setting}/{self.seed}"

    @property
    def is_ours(self) -> bool:
        return not ("pml.loss" in self.options or "untrained" in self.options)

    @property
    def config(self) -> Config:
        """The options of `pullpush train`; for a loop of PML, those by which encoder and batches are made."""
        data, own = self.data, ("against", "rate", "untrained")
        values = {
            **BASE,
            **{"data": data.source, "data.test": data.test, "data.validation": data.validation},
            **{"steps": self.steps, "seed": self.seed, "encoder.size": self.size, "checkpoint_every": self.steps},
            "device": self.device,
            **dict(zip(("batch.classes", "batch.samples"), data.batch, strict=True)),
            **{name: value for name, value in self.options.items() if name not in own and not name.startswith("pml.")},
        }
        config = config_from(values)
        config.optimizer.lr *= self.options.get("rate", 1)
        return config

    @property
    def key(self) -> str:
        """Of all that its result depends on but the seed: a changed option, or another default, is another key."""
        values = self.config.values()
        kept = [n for n in values if n not in LEFT_OUT and (values[n] or n not in SINCE)] if self.is_ours else OF_PML
        own = {name: value for name, value in self.options.items() if name.startswith("pml.") or name == "untrained"}
        return digest([self.budget, {name: values[name] for name in kept}, own])

    @property
    def budget(self) -> str:
        """Of what runs must share to be compared: the very pixels, the shares of the splits, the steps."""
        data = self.data
        return digest([fingerprint(data, self.size, self.folder), data.test, data.validation, self.steps])


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


def packed(data: DataSet, size: int, folder: Path) -> Items:
    """The items, decoded once into one array on disk that all runs read; a little larger than the encoder's input, as
    in training."""
    side = round(size * MARGIN)
    name = f"{Path(data.source).name}-{digest([data.source, data.options, data.classes, data.items, side])}"
    table, archive = folder / "data" / f"{name}.parquet", folder / "data" / f"{name}-ubyte"
    if not table.exists():
        config = config_from({**BASE, "data": data.source, "data.options": dict(data.options)}).data
        items = thinned(read_items(config, lambda _: None), data.classes, data.items)
        write_bytes(archive, idx_bytes(load_pixels(items, side).permute(0, 2, 3, 1).contiguous().numpy()))
        paths = [f"{archive.resolve()}#{row}" for row in range(len(items))]
        rows = items.table.drop(columns=list(BOX), errors="ignore").assign(path=paths, split="")
        Items(rows, items.classes, items.name, items.notes).save(table)
    return Items.load(table)


@cache
def fingerprint(data: DataSet, size: int, folder: Path) -> str:
    """Of pixels and labels: equal on two machines where these are."""
    items = packed(data, size, folder)
    pixels = Path(items.path(0).rpartition("#")[0]).read_bytes()
    return hashlib.sha256(pixels + items.labels.numpy().tobytes()).hexdigest()[:12]


def thinned(items: Items, classes: int, most: int) -> Items:
    """So many classes of two items or more, and so many items of each, drawn without regard to the seed of a run; 0
    for all."""
    drawn = np.random.default_rng(0)
    order = items.table[["label"]].assign(row=np.arange(len(items))).iloc[drawn.permutation(len(items))]
    order = order.groupby("label").head(most or len(items))
    sizes = order.groupby("label").size()
    labels = drawn.permutation(sizes.index[sizes >= 2].to_numpy())[: classes or len(sizes)]
    return items.select(np.sort(order["row"][order["label"].isin(labels)].to_numpy()))


@lru_cache(maxsize=8)
def split(data: DataSet, size: int, folder: Path, seed: int) -> Items:
    """The items with the splits of a seed."""
    config = config_from({**BASE, "data.test": data.test, "data.validation": data.validation}).data
    return make_items(config, seed, lambda _: None, packed(data, size, folder))


def measured(run: Run) -> dict[str, Any]:
    """Makes the run: its result, with the metrics of validation and test of the chosen weights, and how it went."""
    keep_freed_memory()
    since, config = time.process_time(), run.config
    items = split(run.data, run.size, run.folder, run.seed)
    if run.is_ours:
        result = train_ours(config, items, run.folder)
    else:
        torch.manual_seed(config.seed)
        with flushed_denormals():
            task = Task(config, items)
            task.start()
            task.encoder.to(run.device)
            result = train_pml(task, config, run.options) if "pml.loss" in run.options else {}
            result |= {part: evaluated(task, part) for part in ("validation", "test")}
    return {
        **{"set": run.set, "setting": run.setting, "seed": run.seed, "key": run.key, "budget": run.budget},
        "device": run.device,
        **{"steps": run.steps, "size": run.size, "items": len(items), "options": dict(run.options)},
        **result,
        "seconds": round(time.process_time() - since, 1),
    }


def train_ours(config: Config, items: Items, folder: Path) -> dict[str, Any]:
    """A run of `pullpush train`, of whose folder the numbers are kept."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as place:
        config.out = str(Path(place) / "run")
        run = train(config, items=items, quiet=True)
        metrics, log = read_json(run / "metrics.json"), read_jsonl(run / LOG)[0]
    names = [f"validation/{name}" for name in METRICS]
    return {
        "recipe": f"{config.loss}, miner {config.miner}, memory {config.memory.size:g}, rate {config.optimizer.lr:g}",
        **{name: metrics[name] for name in ("best_step", "kept", "share")},
        "curve": [[line["step"], *(round(line[name], 4) for name in names)] for line in log if names[0] in line],
        "validation": chosen(metrics["validation"]),
        "test": chosen(metrics["test"]["after"]),
    }


def train_pml(task: Task, config: Config, options: Mapping[str, Any]) -> dict[str, Any]:
    """PML's loop; the weights are chosen as ours are, by MAP@R at the best of eight validations, and left in `task`."""
    from benchmarks.lab_pml import steps_of_pml

    best, kept, curve, every = (0, -1.0), {}, [], max(1, config.steps // 8)
    for step in steps_of_pml(task, config, options):
        if step % every and step < config.steps:
            continue
        found = evaluated(task, "validation")
        curve.append([step, *(round(value, 4) for value in found.values())])
        if found["map@r"] > best[1]:
            best = (step, found["map@r"])
            kept = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    task.encoder.load_state_dict(kept)
    return {"best_step": best[0], "curve": curve}


def evaluated(task: Task, part: str) -> dict[str, float]:
    """The metrics of the lab on a split, by the evaluation of `pullpush train`."""
    return chosen(dict(task.evaluate(part, task.embed(part, task.encoder.device)).metrics))


def chosen(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(metrics[name], 5) for name in METRICS}
