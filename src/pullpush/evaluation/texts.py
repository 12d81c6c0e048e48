"""What a model of images and texts finds between the two, of items that have texts."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pullpush.data.items import Items
from pullpush.encoders.model import Model
from pullpush.evaluation.cross_modal import CrossModal, evaluate_image_text

__all__ = ["Described", "has_classes", "with_texts"]


class Described(NamedTuple):
    """Images and their texts.

    Attributes:
        found: both directions.
        texts: a row a text: `label` (the class that it belongs to), `id` (of the first such item), `text`.
        embeddings: of the texts, float32 `[m, dim]`.
    """

    found: CrossModal
    texts: pd.DataFrame
    embeddings: NDArray[np.float32]


def with_texts(
    model: Model, items: Items, images: NDArray[np.float32], queries: NDArray[np.float32] | None = None
) -> Described | None:
    """Embeds the texts of items, and evaluates both directions; an image and a text match where they are of one class.

    Args:
        model: of images and texts.
        items: of which some have texts.
        images: `[n, dim]`, a row an item.
        queries: `[n, dim]`, the same as queries, where these are others (test views).

    Returns:
        None where the model or the items have no texts.
    """
    listed = items.table[["label", "id", "text"]].explode("text", ignore_index=True).dropna(subset="text")
    texts = listed.drop_duplicates(["label", "text"], ignore_index=True)
    if model.text is None or texts.empty:
        return None
    embeddings = model.embed_text(list(texts["text"]), progress=True)
    labels = items.table["label"].to_numpy()
    found = evaluate_image_text(images, labels, embeddings, texts["label"].to_numpy(), queries=queries)
    return Described(found, texts, embeddings)


def has_classes(items: Items) -> bool:
    """Whether any class has two items: images with texts alone are a class each."""
    return bool(items.table["label"].duplicated().any())
