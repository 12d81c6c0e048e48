"""What a model finds by the border of images alone, and by their middle alone."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pullpush.data.items import Items
from pullpush.encoders.image import ImageEncoder
from pullpush.errors import UserError
from pullpush.evaluation.evaluate import evaluate
from pullpush.maths.similarity import normalize

__all__ = ["CLASSES", "ITEMS", "Border", "border_recall", "middle_only", "outer_only"]

ITEMS, SIDE = 120, 128
"""Items that are looked at, in whole classes, of images up to this side; of larger ones half as many."""
CLASSES = 10
"""Of fewer classes nothing is said."""
BATCH = 32
MARGIN = (1 - math.sqrt(0.5)) / 2
"""Of the side: what is within has half of the area."""


class Border(NamedTuple):
    """recall@1 of the same queries, seen in part, among whole images; and of how many queries."""

    whole: float
    border: float
    middle: float
    queries: int


def border_recall(encoder: ImageEncoder, items: Items, seed: int = 0) -> Border | None:
    """recall@1 of queries of which only the border is seen, or only the middle, both of half of the image's area.

    The other half has the mean colour of the encoder's preprocessing, which is 0 for the network. Queries search among
    the whole images of the same items, and never find themselves. Unlike a heat map of the last map this removes the
    evidence: a network carries what it sees at the border to its inner places.

    Args:
        encoder: in evaluation mode.
        items: of which whole classes, drawn at random, are looked at, about `ITEMS` items.
        seed: of the draw.

    Returns:
        None where fewer than `CLASSES` classes have two images that can be read.
    """
    rows = _drawn(items, ITEMS if encoder.preprocessing.size <= SIDE else ITEMS // 2, seed)
    images, kept = [], []
    for row in rows:
        try:
            images.append(items.open(row))
        except (UserError, OSError):
            continue
        kept.append(row)
    labels = items.table["label"].to_numpy()[kept]
    if (np.unique(labels, return_counts=True)[1] > 1).sum() < CLASSES:
        return None
    parts: list[list[NDArray[np.float32]]] = [[], [], []]
    for first in range(0, len(images), BATCH):
        given = encoder.prepare(images[first : first + BATCH])
        for part, seen in zip(parts, (given, outer_only(given), middle_only(given)), strict=True):
            with torch.inference_mode():
                part.append(normalize(encoder(seen)).cpu().numpy())
    gallery, *seen_in_part = map(np.concatenate, parts)
    ids = np.arange(len(kept))
    against: dict[str, Any] = {"gallery": gallery, "gallery_labels": labels, "gallery_ids": ids}
    whole, border, middle = (
        evaluate(x, labels, ids, **against, ks=(1,), nmi=False, neighbours=0) for x in (gallery, *seen_in_part)
    )
    one, other, third = (each.metrics["recall@1"] for each in (whole, border, middle))
    return Border(one, other, third, int(whole.counted.sum()))


def outer_only(images: Tensor) -> Tensor:
    """Images `[n, 3, s, s]` whose middle is 0: half of the area is left."""
    margin, seen = _margin(images), images.clone()
    seen[..., margin:-margin, margin:-margin] = 0
    return seen


def middle_only(images: Tensor) -> Tensor:
    """Images `[n, 3, s, s]` of which only the middle is left, half of the area."""
    margin, seen = _margin(images), torch.zeros_like(images)
    seen[..., margin:-margin, margin:-margin] = images[..., margin:-margin, margin:-margin]
    return seen


def _margin(images: Tensor) -> int:
    return max(1, round(images.shape[-1] * MARGIN))


def _drawn(items: Items, most: int, seed: int) -> list[int]:
    """Rows of whole classes of at least two items, and of at most ten of each."""
    labels = items.table["label"].to_numpy()
    names, counts = np.unique(labels, return_counts=True)
    rows: list[int] = []
    for name in np.random.default_rng(seed).permutation(names[counts > 1]):
        if len(rows) >= most:
            break
        rows += np.flatnonzero(labels == name)[:10].tolist()
    return rows
