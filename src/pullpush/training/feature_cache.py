"""Features of a frozen backbone: computed once, kept on disk with their checksum, memory-mapped.

They are computed in shards of `SHARD` rows, each a file that is written whole or not at all. A run that is killed loses
at most the shard that it was in; the next one computes what is missing.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.files import locked, replacing
from pullpush.files.arrays import read_npy
from pullpush.files.cache import cache_folder
from pullpush.files.tensors import hash_tensors
from pullpush.images.files import file_of
from pullpush.names import fresh
from pullpush.progress import work

__all__ = ["SHARD", "Compute", "cached_features", "features_key", "gathered", "texts_key"]

# Rows of a shard. A multiple of what is embedded at a time, so that each row is embedded with the same others whether
# or not the work was cut off: the features are the same to the bit.
SHARD = 1024

Compute = Callable[[Tensor], Iterable[Tensor]]
"""From rows, int64 [some], to their features, some rows at a time, in order."""


def cached_features(key: str, rows: int, compute: Compute, notes: list[str], rank: int = 0, world: int = 1) -> Tensor:
    """float32 [n, width] from the cache, computed at the first call with this key.

    Each shard is written to KEY.parts/START.CHECKSUM.npy when it is computed. When all are there they become one file,
    KEY.CHECKSUM.npy, which is mapped: memory never holds all features, the disk for a moment holds them twice. A file
    that doesn't hold what its name says is computed anew; a cache that can't be written is done without.

    The processes of a run share the shards; whoever else wants the same features waits for them. Where the file system
    has no locks they may be computed twice.

    Args:
        key: of what is computed.
        rows: n, the number of rows that are wanted.
        compute: the features of some rows.
        notes: takes a sentence about a bad file or a cache that can't be written.
        rank: which process this is of those that compute them together.
        world: how many these are.
    """
    cache = cache_folder("features")
    parts = cache / f"{key}.parts"
    stored = _whole(cache, key, rows, notes)
    if stored is not None:
        return stored
    try:
        if world > 1:
            with _locked(parts, [rank]):
                if not _files(cache, key):
                    _complete(parts, rows, compute, notes, rank, world)
        with _locked(parts, range(world)):
            if not _files(cache, key):
                shards = _complete(parts, rows, compute, notes)
                _join(cache, key, shards, rows)
    except (UserError, OSError) as error:
        stored = _whole(cache, key, rows, notes)  # another process may have been faster
        if stored is None:
            stored = _in_memory(parts, rows, compute)  # raises again what is wrong with the data
            notes.append(f"features are not kept for the next run: {error}, or set $PULLPUSH_CACHE to another folder")
        return stored
    stored = _whole(cache, key, rows, notes)
    if stored is None:
        return _in_memory(parts, rows, compute)
    shutil.rmtree(parts, ignore_errors=True)
    return stored


def gathered(parts: Iterable[Tensor], rows: int) -> Tensor:
    """Parts one after another [rows, ...], each copied once."""
    whole, start = torch.empty(0), 0
    for part in parts:
        whole = whole if start else torch.empty(rows, *part.shape[1:])
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


@contextmanager
def _locked(parts: Path, ranks: Iterable[int]) -> Iterator[None]:
    """Holds the locks of these ranks; it waits for each as long as the process lives that has it."""
    with ExitStack() as held:
        with work("waiting for another process that computes the same features"):
            for rank in ranks:
                held.enter_context(locked(parts / f"{rank}.lock", "", wait=math.inf))
        yield


def _complete(
    parts: Path, rows: int, compute: Compute, notes: list[str], rank: int = 0, world: int = 1
) -> dict[int, Path]:
    """Computes and writes the shards that are missing, of several ranks those of this one; gives all that are there."""
    there, damaged = _shards(parts, rows)
    for path in damaged:
        notes.append(f"the cached features {path} are damaged and are computed anew")
        with suppress(OSError):
            path.unlink()
    missing = [start for start in range(0, rows, SHARD)[rank::world] if start not in there]
    for start, shard in _computed(missing, rows, compute):
        there[start] = parts / f"{start}.{_checksum(shard.numpy())}.npy"
        with replacing(there[start]) as part, part.open("wb") as file:
            np.save(file, shard.numpy())
    return there


def _computed(starts: Sequence[int], rows: int, compute: Compute) -> Iterator[tuple[int, Tensor]]:
    """The shards that begin at these rows, each with the row."""
    wanted = [torch.arange(start, min(start + SHARD, rows)) for start in starts]
    computed = iter(compute(torch.cat(wanted))) if wanted else iter(())
    for start, own in zip(starts, wanted, strict=True):
        yield start, gathered(_first(computed, len(own)), len(own))


def _first(parts: Iterator[Tensor], rows: int) -> Iterator[Tensor]:
    """The next parts that make so many rows together."""
    while rows > 0:
        part = next(parts)
        rows -= len(part)
        yield part


def _shards(parts: Path, rows: int) -> tuple[dict[int, Path], list[Path]]:
    """The shards that are there, by their first row; and those that are damaged."""
    there, damaged = dict[int, Path](), list[Path]()
    for path in sorted(parts.glob("[0-9]*.*.npy")):
        start = int(path.name.split(".")[0])
        if _checked(path, min(SHARD, rows - start)) is None:
            damaged.append(path)
        else:
            there[start] = path
    return there, damaged


def _join(cache: Path, key: str, shards: Mapping[int, Path], rows: int) -> None:
    """Makes one file of all shards."""
    arrays = (read_npy(shards[start], kinds="f", mapped=True) for start in sorted(shards))
    written = shards[0].with_name(f".{fresh()}.npy")
    with replacing(written) as part, part.open("wb") as file:
        checksum = _write(file, rows, arrays)
    os.replace(written, cache / f"{key}.{checksum}.npy")


def _in_memory(parts: Path, rows: int, compute: Compute) -> Tensor:
    """All features, of which some shards may be there."""
    there, _ = _shards(parts, rows)
    starts = range(0, rows, SHARD)
    computed = _computed([start for start in starts if start not in there], rows, compute)
    shards = (
        torch.from_numpy(read_npy(there[start], kinds="f", mapped=True)) if start in there else next(computed)[1]
        for start in starts
    )
    return gathered(shards, rows)


def _files(cache: Path, key: str) -> list[Path]:
    return sorted(cache.glob(f"{key}.*.npy"))


def _whole(cache: Path, key: str, rows: int, notes: list[str]) -> Tensor | None:
    """The features of a key; a damaged file is removed."""
    for path in _files(cache, key):
        stored = _checked(path, rows)
        if stored is not None:
            return stored
        notes.append(f"the cached features {path} are damaged and are computed anew")
        with suppress(OSError):
            path.unlink()
    return None


def _write(file: BinaryIO, rows: int, arrays: Iterable[NDArray[Any]]) -> str:
    """Writes arrays one after another as the array of a .npy file, and gives its checksum."""
    digest = hashlib.sha256()
    for number, array in enumerate(arrays):
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
    """A hash of the backbone's weights and architecture, what is said `about` it, and path, box, size and time of each
    image's file.

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
    built_by = getattr(backbone, "architecture", None)  # such as activations, which no weight tells
    if built_by is not None:
        digest.update(json.dumps(built_by, sort_keys=True).encode())
    hash_tensors(digest, backbone.state_dict().items())
    for each in seen:
        digest.update(json.dumps(each).encode())
    return digest.hexdigest()[:32]
