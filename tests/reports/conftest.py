"""A small run folder with everything in it: 24 test classes of 6 drawn pictures, and the logs of 300 steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from pullpush.data.items import Items
from tests.support.browser import browser

__all__ = ["browser"]

CLASSES = {"train": 20, "validation": 6, "test": 24}
EACH = 6
DIM = 16


def make_run(folder: Path, seed: int = 0) -> Path:
    """Clusters that are loose before training and tight after it; the classes are coloured shapes."""
    rng = np.random.default_rng(seed)
    pictures = folder.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    (folder / "embeddings").mkdir(parents=True)
    rows, names = [], []
    for split, count in CLASSES.items():
        for _ in range(count):
            label = len(names)
            names.append(f"{'round' if label % 2 else 'square'} <thing> & no. {label}")
            for item in range(EACH):
                path = pictures / f"{label}-{item}.png"
                image = Image.new("RGB", (40, 32), "white")
                shape = ImageDraw.Draw(image).ellipse if label % 2 else ImageDraw.Draw(image).rectangle
                shape((6, 4, 30 + item, 26), fill=(label * 5 % 256, label * 53 % 256, label * 97 % 256))
                image.save(path)
                category = "round" if label % 2 else "square"
                rows.append({"path": str(path), "label": label, "split": split, "category": category})
    items = Items(pd.DataFrame(rows), names, "shapes", ["2 files were left out."])
    items.save(folder / "items.parquet")
    centers = rng.normal(size=(len(names), DIM))
    for split in CLASSES:
        labels = items.split(split).table["label"].to_numpy()
        for when, noise in (("before", 1.4), ("after", 0.55)):
            if (split, when) != ("validation", "before"):
                x = centers[labels] + noise * rng.normal(size=(len(labels), DIM))
                x /= np.linalg.norm(x, axis=1, keepdims=True)
                np.save(folder / "embeddings" / f"{split}-{when}.npy", x.astype(np.float32))
    names = ("recall@1", "recall@2", "recall@4", "recall@8", "recall@10", "r_precision", "map@r", "nmi")
    test = {"before": dict.fromkeys(names, 0.4125), "after": dict.fromkeys(names, 0.8375)}
    seen = [f"{label},7,{40 + label}\n" for label in range(CLASSES["train"])]
    (folder / "classes_seen.csv").write_text("class,items,drawn\n" + "".join(seen), encoding="utf-8")
    metrics = {"data": "shapes", "loss": "circle", "seconds": 83.0, "best_step": 270, "test": test}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"python": "3.11.0", "cores": 2}), encoding="utf-8")
    (folder / "config.yaml").write_text("loss:\n  name: circle\n  margin: 0.4\nseed: 0\n", encoding="utf-8")
    with (folder / "log.jsonl").open("w", encoding="utf-8") as log:
        for step in range(1, 301):
            loss = 2 * np.exp(-step / 80) + 0.1 * rng.normal()
            log.write(json.dumps({"step": step, "train/loss": loss, "lr": 1e-3 * (1 - step / 300)}) + "\n")
            if step % 30 == 0:
                values = {f"validation/{key}": 0.5 + step / 1000 for key in ("recall@1", "recall@10", "map@r")}
                values |= {"validation/loss_miner": 1.2, "validation/loss_all": 0.9}
                log.write(json.dumps({"step": step, **values}) + "\n")
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "shapes")


@pytest.fixture(scope="session")
def new_run() -> Callable[[Path], Path]:
    """Writes a run folder of its own for a test that changes it."""
    return make_run


@pytest.fixture(scope="session")
def page(run_folder: Path) -> Path:
    """The report of the small run, drawn once for all tests."""
    from pullpush import reports

    return reports.report(run_folder)
