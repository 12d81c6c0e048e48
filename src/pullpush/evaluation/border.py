"""By what a model tells images apart: by their border, or by their middle."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pullpush.data.items import Items
from pullpush.encoders.model import Model
from pullpush.encoders.views import View, embed_each, mean_of
from pullpush.errors import UserError

__all__ = ["CLASSES", "ITEMS", "Border", "border_recall", "exchanged"]

ITEMS, SIDE = 120, 128
"""Items that are looked at, in whole classes, of images up to this side; of larger ones half as many."""
CLASSES = 10
"""Of fewer classes nothing is said."""
BATCH = 32
MARGIN = (1 - math.sqrt(0.5)) / 2
"""Of the side: what is within has half of the area."""


class Border(NamedTuple):
    """Shares of queries: whole images that find their class first; and of images that have the middle of one class and
    the border of another, those that find the class of the border first, and those that find that of the middle."""

    whole: float
    border: float
    middle: float
    queries: int


def border_recall(model: Model, items: Items, seed: int = 0) -> Border | None:
    """What decides where the border of an image and its middle, of equal area, are of different classes.

    The middle of each image is set into an image of another class, drawn at random, and searches among the whole
    images; neither of the two that it is made of is found. Such a conflict of cues (Geirhos et al., ImageNet-trained
    CNNs are biased towards texture, ICLR 2019) says by which one the model goes, while images of which a part is blank
    are unlike any that it was trained on. Images are seen in the views of the model.

    Args:
        model: with an image encoder.
        items: of which whole classes, drawn at random, are looked at, about `ITEMS` items.
        seed: of the draws.

    Returns:
        None where fewer than `CLASSES` classes have two images that can be read.
    """
    encoder, views, rng = model.image, model.views, np.random.default_rng(seed)
    rows = _drawn(items, ITEMS if encoder.preprocessing.size <= SIDE else ITEMS // 2, rng)
    squares, kept = [], []
    for row in rows:
        try:
            squares.append(encoder.squares([items.open(row)], model.side))
        except (UserError, OSError):
            continue
        kept.append(row)
    labels = items.table["label"].to_numpy()[kept]
    if (np.unique(labels, return_counts=True)[1] > 1).sum() < CLASSES:
        return None
    images, own = torch.cat(squares), np.arange(len(kept))
    other = np.array([rng.choice(np.flatnonzero(labels != label)) for label in labels])

    def embedded(pixels: Tensor, seen: tuple[View, ...]) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [mean_of(embed_each(encoder, part, seen), seen) for part in pixels.split(BATCH)]
        return torch.cat(parts).cpu().numpy()

    gallery = embedded(images, views.gallery)
    plain = embedded(images, views.query) @ gallery.T
    mixed = embedded(exchanged(images, images[other]), views.query) @ gallery.T
    plain[own, own] = mixed[own, own] = mixed[own, other] = -np.inf
    wanted = ((plain, labels), (mixed, labels[other]), (mixed, labels))
    whole, border, middle = (float(_first(scores, label, labels).mean()) for scores, label in wanted)
    return Border(whole, border, middle, len(kept))


def exchanged(middle: Tensor, border: Tensor) -> Tensor:
    """Images `[n, 3, s, s]` with the middle of the first, half of the area, within the border of the second."""
    margin, mixed = max(1, round(middle.shape[-1] * MARGIN)), border.clone()
    mixed[..., margin:-margin, margin:-margin] = middle[..., margin:-margin, margin:-margin]
    return mixed


def _first(scores: NDArray[np.float32], wanted: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the nearest reference of each query is of the class that is wanted; a tie with another class is none."""
    right = wanted[:, None] == labels[None]
    return np.asarray(np.where(right, scores, -np.inf).max(1) > np.where(right, -np.inf, scores).max(1))


def _drawn(items: Items, most: int, rng: np.random.Generator) -> list[int]:
    """Rows of whole classes of at least two items, and of at most ten of each."""
    labels = items.table["label"].to_numpy()
    names, counts = np.unique(labels, return_counts=True)
    rows: list[int] = []
    for name in rng.permutation(names[counts > 1]):
        if len(rows) >= most:
            break
        rows += np.flatnonzero(labels == name)[:10].tolist()
    return rows
