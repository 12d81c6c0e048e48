"""Small trees in the layouts of the benchmarks, with real images: for tests, and for trying things out."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from pullpush.data.benchmarks import Images, save_images
from pullpush.data.items import Items
from pullpush.data.readers import gathered
from pullpush.data.sets.emoji import read_emoji
from pullpush.errors import UserError

__all__ = ["LAYOUTS", "make_tree"]


def make_tree(layout: str, folder: str | Path, *, classes: int = 8, images: int = 4, seed: int = 0) -> Path:
    """Writes `classes` x `images` emoji into `folder` in the layout of a benchmark, half of the classes for training.

    Args:
        layout: One of `LAYOUTS`.
        folder: Created; must be empty or absent.
        classes: At least 2; Fashion-MNIST has at most 10.
        images: Images a class, 2 to 7 (the number of vendors).
        seed: Which emoji are taken.

    Returns:
        What to open: the folder, or the manifest in it.

    Raises:
        UserError: unknown layout, a folder with something in it, numbers out of range.
    """
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout {layout!r}; layouts: {', '.join(LAYOUTS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; name a new folder")
    most = 10 if layout == "fashion-mnist" else 1000
    if not (2 <= classes <= most and 2 <= images <= 7):
        raise UserError(f"a small tree has 2 to {most} classes of 2 to 7 images, not {classes} of {images}")
    folder.mkdir(parents=True, exist_ok=True)
    return LAYOUTS[layout](folder, _images(classes, images, seed))


def _images(classes: int, images: int, seed: int) -> Images:
    emoji = _emoji()
    by_label = emoji.table.groupby("label").indices
    full = [label for label, rows in by_label.items() if len(rows) >= images]
    chosen = np.random.default_rng(seed).permutation(full)[:classes]
    return [[emoji.open(int(row)) for row in by_label[label][:images]] for label in chosen]


@lru_cache(maxsize=1)
def _emoji() -> Items:
    """Read once: tests make many trees."""
    return read_emoji()


def _folder(folder: Path, content: Images) -> Path:
    save_images(folder, content, lambda label, i: f"class_{label}/{i}.png")
    return folder


def _manifest(folder: Path, content: Images) -> Path:
    rows = []
    for label, i, path in save_images(folder, content, lambda label, i: f"images/{label}_{i}.png"):
        train, (width, height) = label < len(content) // 2, content[label][i].size
        row = {"label": label, "path": path, "split": "train" if train else "validation"}
        row |= {} if train else {"is_query": i % 2 == 0, "is_gallery": i % 2 == 1}
        row |= {"category": f"c{label % 2}", "x_1": 0, "x_2": width, "y_1": 0, "y_2": height}
        rows.append({**row, "text": f"image {i}|thing {label}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


Layout = Callable[[Path, Images], Path]
LAYOUTS: Mapping[str, Layout] = {**gathered("LAYOUTS"), "folder": _folder, "manifest": _manifest}
"""Name of a layout -> what writes a small tree in it: a new folder and images to what `open_items` takes."""
