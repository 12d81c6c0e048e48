"""Embeddings and thumbnails of a build: decoded ahead of the model, and kept in small files on their way, so that a
stopped build goes on where it stopped."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from PIL import Image

from pullpush.encoders.model import Model
from pullpush.errors import UserError
from pullpush.files import replacing
from pullpush.files.arrays import read_npz
from pullpush.images import Fit, resize_and_center
from pullpush.progress import showing, work
from pullpush.search.source import KEYS
from pullpush.search.thumbnails import thumbnail

__all__ = ["Journal", "embed", "keys_of"]

CHUNK = 256
"""Images between two marks from which a stopped build continues."""
ARRAYS = {"head": "u", "vectors": "f", "lengths": "i", "images": "u"}
Key = tuple[str, int, int]
"""Key, size and time of an image (`source.KEYS`)."""


class Head(TypedDict):
    """What a chunk holds: the keys of its rows, and key and reason of the images that cannot be read."""

    keys: Sequence[Key]
    unreadable: Sequence[tuple[str, int, int, str]]


class Journal:
    """Chunks in `folder`, each complete or not there. What another model wrote there, or is damaged, is dropped."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        owner = folder / "fingerprint"
        if folder.exists() and not (owner.is_file() and owner.read_bytes() == fingerprint.encode()):
            shutil.rmtree(folder)
        if not folder.exists():
            folder.mkdir()
            owner.write_text(fingerprint, encoding="utf-8")
        for part in folder.glob("*.part"):
            part.unlink()
        self._chunks: list[Path] = []
        self._places: dict[Key, tuple[int, int]] = {}
        self.unreadable: dict[Key, str] = {}
        for chunk in sorted(folder.glob("*.npz")):
            try:
                head = json.loads(read_npz(chunk, ARRAYS)["head"].tobytes())
            except (UserError, ValueError):  # its images are embedded again
                chunk.unlink()
                continue
            self._note(len(self._chunks), head)
            self._chunks.append(chunk)

    def __contains__(self, key: Key) -> bool:
        return key in self._places or key in self.unreadable

    def add(
        self, keys: Sequence[Key], vectors: np.ndarray, images: Sequence[bytes], unreadable: dict[Key, str]
    ) -> None:
        """One chunk: embeddings and thumbnails of `keys`, and the reasons of those that cannot be read."""
        head: Head = {"keys": list(keys), "unreadable": [(*key, reason) for key, reason in unreadable.items()]}
        number = int(self._chunks[-1].stem) + 1 if self._chunks else 0
        path = self.folder / f"{number:06d}.npz"
        with replacing(path) as part, part.open("wb") as file:
            np.savez(
                file,
                head=np.frombuffer(json.dumps(head).encode(), np.uint8),
                vectors=np.asarray(vectors, np.float32),
                lengths=np.array([len(image) for image in images], np.int64),
                images=np.frombuffer(b"".join(images), np.uint8),
            )
        self._note(len(self._chunks), head)
        self._chunks.append(path)

    def read(self, keys: Sequence[Key]) -> Iterator[tuple[np.ndarray, bytes]]:
        """Embedding and thumbnail of each key. Chunks are read once when `keys` come in the order they were added."""
        loaded, vectors, images, ends = -1, np.empty(0), b"", np.empty(0, int)
        for key in keys:
            number, row = self._places[key]
            if number != loaded:
                arrays = read_npz(self._chunks[number], ARRAYS)
                vectors, images, ends = arrays["vectors"], arrays["images"].tobytes(), np.cumsum(arrays["lengths"])
                loaded = number
            start = int(ends[row - 1]) if row else 0
            yield vectors[row], images[start : int(ends[row])]

    def clear(self) -> None:
        shutil.rmtree(self.folder)

    def _note(self, number: int, head: Head) -> None:
        for row, (key, size, mtime) in enumerate(head["keys"]):
            self._places[key, size, mtime] = (number, row)
        for key, size, mtime, reason in head["unreadable"]:
            self.unreadable[key, size, mtime] = reason


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
    decode = partial(_decode, open_row, size=model.side, fit=model.fit)
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    with showing(progress), work("embedding images", len(todo)) as current, ThreadPoolExecutor(4) as pool:
        ahead = [pool.submit(decode, row) for row in chunks[0]] if chunks else []
        for number, chunk in enumerate(chunks):
            decoded = [future.result() for future in ahead]
            following = chunks[number + 1] if number + 1 < len(chunks) else []
            ahead = [pool.submit(decode, row) for row in following]
            good = [(keys[row], *made) for row, made in zip(chunk, decoded, strict=True) if not isinstance(made, str)]
            bad = {keys[row]: reason for row, reason in zip(chunk, decoded, strict=True) if isinstance(reason, str)}
            vectors = model.embed([image for _, image, _ in good], batch_size=batch_size)
            journal.add([key for key, _, _ in good], vectors, [small for _, _, small in good], bad)
            current.advance(len(chunk))


def _decode(open_row: Callable[[int], Image.Image], row: int, size: int, fit: Fit) -> tuple[np.ndarray, bytes] | str:
    """The image at the size that the model wants, and its thumbnail; or why it cannot be read."""
    try:
        image = open_row(row)
    except UserError as error:
        return str(error)
    return resize_and_center(image, size, fit), thumbnail(image)
