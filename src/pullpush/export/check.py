"""Does an export embed as the model does?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pullpush.data.items import Items
from pullpush.encoders.model import Model
from pullpush.encoders.runtimes.runtime import LEAST
from pullpush.encoders.views import Views
from pullpush.errors import UserError
from pullpush.evaluation import evaluate_items, protocol_for
from pullpush.evaluation.knn import unit
from pullpush.images import Unreadable
from pullpush.progress import counted
from pullpush.runs.reader import Missing, RunFolder

__all__ = ["Check", "Embed", "check", "of_split", "run_of"]

Embed = Callable[[Sequence[Any]], NDArray[np.float32]]
"""Images or texts to embeddings `[n, dim]`."""

BATCHES = (1, 7)
LOST = 0.003
"""The largest fall of recall@1."""
TEXTS = ("a red fruit", "two dogs", "nothing", "a cat that sleeps on a chair", "Äpfel", "7", "the moon at night")


@dataclass(frozen=True)
class Check:
    """How an export compares with the model.

    Attributes:
        cosine: the least, of an embedding with that of the model, in batches of one and of seven, of each kind.
        images: "test" or "train" where they were images of that split of the run, "noise" where there were none.
        recall: recall@1 of the run's test by the export; None where that could not be measured.
        recall_of_model: so by the model, its images seen once.
    """

    cosine: dict[str, float]
    images: str
    recall: float | None = None
    recall_of_model: float | None = None


def check(model: Model, embeds: Mapping[str, Embed], run: RunFolder | None, least: float = LEAST) -> Check:
    """Compares an export with its model.

    Args:
        model: as it is; its embeddings of images seen once count.
        embeds: the export, for each kind of encoder.
        run: whose test is embedded, where its images can still be read.
        least: the least cosine.

    Raises:
        UserError: a cosine is lower, or more than `LOST` of recall@1 is lost.
    """
    model = Model(list(model.encoders.values()), model.fingerprint, views=Views())
    split, images = _images(run)
    given: dict[str, Sequence[Any]] = {"image": images, "text": TEXTS}
    cosine = {kind: _least(model, kind, embed, given[kind]) for kind, embed in embeds.items()}
    for kind, value in cosine.items():
        if not value >= least:
            raise UserError(
                f"the export embeds {kind}s otherwise than the model: the least cosine is {value:.5f}, at least "
                f"{least:g} is wanted; nothing was written. Choose another format"
            )
    recall = recall_of_model = None
    if split == "test" and run is not None and "image" in embeds:
        with suppress(Missing, Unreadable):  # images, or the embeddings of the run, are no longer there
            items = run.split("test")
            recall_of_model = _recall(run.embeddings("test", "after"), items)
            recall = None if recall_of_model is None else _recall(_embedded(embeds["image"], items), items)
    if recall is not None and recall_of_model is not None and recall < recall_of_model - LOST:
        raise UserError(
            f"the export finds less: recall@1 {recall:.4f} of the test, the model {recall_of_model:.4f}; at most "
            f"{LOST:g} may be lost. Nothing was written"
        )
    return Check(cosine, split, recall, recall_of_model)


def of_split(run: RunFolder | None, split: str, most: int) -> list[Image.Image]:
    """So many images of a split of a run, a fixed random choice; none where there is no such split, or its images
    cannot be read any more."""
    if run is None:
        return []
    try:
        items = run.split(split)
        rows = np.random.default_rng(0).permutation(len(items))[:most]
        return [items.open(int(row)) for row in rows]
    except (Missing, UserError):
        return []


def _images(run: RunFolder | None) -> tuple[str, list[Image.Image]]:
    for split in ("test", "train"):
        if images := of_split(run, split, sum(BATCHES)):
            return split, images
    noise = np.random.default_rng(0).integers(0, 256, (sum(BATCHES), 96, 96, 3), np.uint8)
    return "noise", [Image.fromarray(each) for each in noise]


def _least(model: Model, kind: str, embed: Embed, inputs: Sequence[Any]) -> float:
    cosines = []
    for size in BATCHES:
        some = inputs[:size]
        mine = model.embed_as(kind, some)
        cosines.append((unit(embed(some)) * mine).sum(axis=1).min())
    return float(min(cosines))


def _embedded(embed: Embed, items: Items, size: int = 64) -> NDArray[np.float32]:
    def batches() -> Iterator[NDArray[np.float32]]:
        for first in range(0, len(items), size):
            yield embed([items.open(row) for row in range(first, min(first + size, len(items)))])

    parts = counted(batches(), "comparing", len(items), "items", len)
    return unit(np.concatenate(list(parts)))


def _recall(embeddings: NDArray[np.float32], items: Items) -> float | None:
    try:
        return float(evaluate_items(embeddings, items, protocol_for(items), nmi=False).metrics["recall@1"])
    except (KeyError, UserError):  # no class has two items
        return None


def run_of(path: Path) -> RunFolder | None:
    """The run that a model folder belongs to; none of a library's model."""
    for folder in (path, path.resolve().parent) if path.is_dir() else ():
        if (folder / "config.yaml").is_file() and (folder / "items.parquet").is_file():
            return RunFolder(folder)
    return None
