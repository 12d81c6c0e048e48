"""Features of a frozen backbone: computed once, kept on disk with their checksum, memory-mapped."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.files import replacing
from pullpush.files.arrays import read_npy
from pullpush.files.cache import cache_folder
from pullpush.images.files import file_of

__all__ = ["cached_features", "features_key", "texts_key"]


def cached_features(key: str, rows: int, compute: Callable[[], Tensor], notes: list[str]) -> Tensor:
    """float32 [n, width] from the cache, computed at the first call with this key.

    The checksum of the features stands in the name of their file, KEY.CHECKSUM.npy. A file that doesn't hold what its
    name says is computed anew; a cache that can't be written is done without. Processes that want the same features may
    race.

    Args:
        key: of what is computed.
        rows: n, the number of rows that are wanted.
        compute: the features.
        notes: takes a sentence about a bad file or a cache that can't be written.
    """
    folder = cache_folder("features")
    for path in sorted(folder.glob(f"{key}.*.npy")):
        stored = _checked(path, rows)
        if stored is not None:
            return stored
        notes.append(f"the cached features {path} are damaged and are computed anew")
        with suppress(OSError):
            path.unlink()
    features = compute().contiguous()
    path = folder / f"{key}.{_checksum(features.numpy())}.npy"
    try:
        with replacing(path) as part, part.open("wb") as file:
            np.save(file, features.numpy())
    except UserError as error:
        notes.append(f"features are not kept for the next run: {error}, or set $PULLPUSH_CACHE to another folder")
        return features
    stored = _checked(path, rows)
    return features if stored is None else stored


def _checked(path: Path, rows: int) -> Tensor | None:
    """The features of a file, None where they are not what its name says."""
    try:
        array = read_npy(path, shape=(rows, None), kinds="f", mapped=True)
    except UserError:
        return None
    return torch.from_numpy(array) if _checksum(array) == path.name.split(".")[-2] else None


def _checksum(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()[:32]


def features_key(backbone: nn.Module, about: str, items: Items) -> str:
    """A hash of the backbone's weights, what is said `about` it, and path, box, size and time of each image's file.

    A change of any of these makes a new key; the file of an image in an archive is the archive.
    """
    paths = [str(path) for path in items.table["path"]]
    times = {file: _size_and_time(file) for file in set(map(file_of, paths))}
    return _key(backbone, about, ([path, items.box(row), times[file_of(path)]] for row, path in enumerate(paths)))


def texts_key(backbone: nn.Module, about: str, texts: Sequence[str]) -> str:
    """The same of texts: a hash of the backbone's weights, what is said `about` it, and the texts."""
    return _key(backbone, about, [list(texts)])


def _size_and_time(file: str) -> list[int] | None:
    stat = os.stat(file) if os.path.exists(file) else None
    return stat and [stat.st_size, stat.st_mtime_ns]


def _key(backbone: nn.Module, about: str, seen: Iterable[Any]) -> str:
    digest = hashlib.sha256(about.encode())
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    for each in seen:
        digest.update(json.dumps(each).encode())
    return digest.hexdigest()[:32]
