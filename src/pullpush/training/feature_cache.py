"""Features of a frozen backbone: computed once, kept on disk with their checksum, memory-mapped."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

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
from pullpush.names import fresh

__all__ = ["cached_features", "features_key", "gathered", "texts_key"]


def cached_features(key: str, rows: int, compute: Callable[[], Iterable[Tensor]], notes: list[str]) -> Tensor:
    """float32 [n, width] from the cache, computed at the first call with this key.

    They are written as they are computed and mapped then, so memory never holds them all. The checksum of the features
    stands in the name of their file, KEY.CHECKSUM.npy. A file that doesn't hold what its name says is computed anew; a
    cache that can't be written is done without. Processes that want the same features may race.

    Args:
        key: of what is computed.
        rows: n, the number of rows that are wanted.
        compute: the features, some rows at a time, in order.
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
    written = folder / f".{fresh()}.npy"
    try:
        with replacing(written) as part, part.open("wb") as file:
            checksum = _write(file, rows, compute())
        os.replace(written, path := folder / f"{key}.{checksum}.npy")
    except (UserError, OSError) as error:
        with suppress(OSError):
            written.unlink()
        features = gathered(compute(), rows)  # raises again what is wrong with the data
        notes.append(f"features are not kept for the next run: {error}, or set $PULLPUSH_CACHE to another folder")
        return features
    stored = _checked(path, rows)
    return gathered(compute(), rows) if stored is None else stored


def gathered(parts: Iterable[Tensor], rows: int) -> Tensor:
    """Parts one after another [rows, ...], each copied once."""
    whole, start = torch.empty(0), 0
    for part in parts:
        whole = whole if start else torch.empty(rows, *part.shape[1:])
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _write(file: BinaryIO, rows: int, parts: Iterable[Tensor]) -> str:
    """Writes parts one after another as the array of a .npy file, and gives its checksum."""
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        array = np.ascontiguousarray(part.numpy(), np.float32)
        if not number:
            shape = (rows, *array.shape[1:])
            digest.update(_about(array.dtype, shape))
            header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        digest.update(array.data.cast("B"))
        file.write(array.data)
    return digest.hexdigest()[:32]


def _checked(path: Path, rows: int) -> Tensor | None:
    """The features of a file, None where they are not what its name says."""
    try:
        array = read_npy(path, shape=(rows, None), kinds="f", mapped=True)
    except UserError:
        return None
    return torch.from_numpy(array) if _checksum(array) == path.name.split(".")[-2] else None


def _checksum(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(_about(array.dtype, array.shape))
    digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()[:32]


def _about(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return f"{dtype} {shape}".encode()


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
