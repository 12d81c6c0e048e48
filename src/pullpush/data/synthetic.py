"""Small trees in the layouts of the benchmarks, with real images: for tests, and for trying things out."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from pullpush.data.benchmarks import Images, Layouts, save
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
    for number, images in enumerate(content):
        for i, image in enumerate(images):
            save(image, folder / f"class_{number}" / f"{i}.png")
    return folder


def _manifest(folder: Path, content: Images) -> Path:
    lines = ["label,path,split,is_query,is_gallery,category,x_1,x_2,y_1,y_2,text"]
    for number, images in enumerate(content):
        train = number < len(content) // 2
        for i, image in enumerate(images):
            path = f"images/{number}_{i}.png"
            save(image, folder / path)
            roles = "," if train else f"{i % 2 == 0},{i % 2 == 1}"
            box = f"0,{image.width},0,{image.height}"
            text = json.dumps(f"image {i}|thing {number}")
            lines.append(f"{number},{path},{'train' if train else 'validation'},{roles},c{number % 2},{box},{text}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


LAYOUTS: Layouts = {**gathered("LAYOUTS"), "folder": _folder, "manifest": _manifest}
"""Those of the data sets, and two of one's own data."""
