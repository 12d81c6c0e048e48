"""Embeddings and thumbnails of a build, decoded ahead of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from PIL import Image

from pullpush.encoders.model import Model
from pullpush.errors import UserError
from pullpush.images import resize_and_center
from pullpush.progress import showing, work
from pullpush.search.journal import Journal, Key
from pullpush.search.source import KEYS
from pullpush.search.thumbnails import thumbnail

__all__ = ["embed", "keys_of"]

CHUNK = 256
"""Images between two marks from which a stopped build continues."""


def keys_of(table: pd.DataFrame) -> list[Key]:
    """By what each row is known in the journal: its key, and the size and time of its file."""
    return [(str(key), int(size), int(mtime)) for key, size, mtime in table[KEYS].itertuples(index=False)]


def embed(
    model: Model,
    open_row: Callable[[int], Image.Image],
    wanted: pd.DataFrame,
    fresh: Sequence[int],
    journal: Journal,
    batch_size: int,
    progress: bool,
) -> None:
    """Fills the journal with all of `fresh`. The next images are decoded while the model works."""
    keys = keys_of(wanted)
    todo = [row for row in fresh if keys[row] not in journal]
    size = model.preprocessing.size
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    with showing(progress), work("embedding images", len(todo)) as current, ThreadPoolExecutor(4) as pool:
        ahead = [pool.submit(_decode, open_row, row, size) for row in chunks[0]] if chunks else []
        for number, chunk in enumerate(chunks):
            decoded = [future.result() for future in ahead]
            following = chunks[number + 1] if number + 1 < len(chunks) else []
            ahead = [pool.submit(_decode, open_row, row, size) for row in following]
            good = [(keys[row], *made) for row, made in zip(chunk, decoded, strict=True) if not isinstance(made, str)]
            bad = {keys[row]: reason for row, reason in zip(chunk, decoded, strict=True) if isinstance(reason, str)}
            vectors = model.embed([image for _, image, _ in good], batch_size=batch_size)
            journal.add([key for key, _, _ in good], vectors, [small for _, _, small in good], bad)
            current.advance(len(chunk))


def _decode(open_row: Callable[[int], Image.Image], row: int, size: int) -> tuple[np.ndarray, bytes] | str:
    """The image at the size that the model wants, and its thumbnail; or why it cannot be read."""
    try:
        image = open_row(row)
    except UserError as error:
        return str(error)
    return resize_and_center(image, size), thumbnail(image)
