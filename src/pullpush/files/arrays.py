"""Files of NumPy arrays. Pickles are never loaded; a shape is checked against the file before memory is taken."""

import math
import os
import threading
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pullpush.files.text import CURE, damaged, regular

__all__ = ["read_npy", "read_npz"]

MOST_INFLATED = 100  # times its size in the file that a compressed array may have
SMALL = 64 << 20  # bytes of which the above doesn't matter
# A header is a Python literal, and Python 3.11's parser fails where two threads are in it.
ONE_AT_A_TIME = threading.Lock()


def read_npy(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int | None, ...] | None = None,
    kinds: str = "fiu",
    mapped: bool = False,
    cure: str = CURE,
) -> NDArray[Any]:
    """The array of a .npy file.

    Args:
        path: the file.
        shape: what it must have; None for any length of that axis. Without it, any shape.
        kinds: NumPy's letters of the kinds of values that are taken (`f` floats, `i` and `u` integers, `b` bool).
        mapped: memory-mapped, copy on write, instead of read.
        cure: what to do where the file can't be used.

    Raises:
        UserError: no such file, no array, cut off, pickled, or of another shape or kind.
    """
    size = regular(path, cure).stat().st_size
    try:
        with ONE_AT_A_TIME, Path(path).open("rb") as file:
            held = _header(file, size, kinds)
        if shape is not None and (
            len(held) != len(shape) or any(n not in (None, has) for n, has in zip(shape, held, strict=True))
        ):
            raise ValueError(f"its shape is {list(held)}, not {[n if n is not None else 'any' for n in shape]}")
        empty = 0 in held  # nothing to map
        with ONE_AT_A_TIME:
            return np.asarray(np.load(path, mmap_mode="c" if mapped and not empty else None, allow_pickle=False))
    except Exception as error:  # headers are Python literals: they fail in many ways
        raise damaged(path, error, cure) from error


def read_npz(
    path: str | os.PathLike[str], kinds: dict[str, str], *, optional: Collection[str] = (), cure: str = CURE
) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by name.

    Args:
        path: the file.
        kinds: the names that must be there, each with the kinds of values that are taken (see `read_npy`).
        optional: those of them that may be missing.
        cure: what to do where the file can't be used.

    Raises:
        UserError: no such file, no archive, an array that is missing, cut off, pickled, or of another kind.
    """
    size = regular(path, cure).stat().st_size
    try:
        arrays = {}
        with zipfile.ZipFile(path) as archive:
            for name, letters in kinds.items():
                try:
                    about = archive.getinfo(f"{name}.npy")
                except KeyError:
                    if name in optional:
                        continue
                    raise ValueError(f"it has no array {name!r}") from None
                if about.file_size > max(SMALL, MOST_INFLATED * size):
                    raise ValueError(f"its array {name!r} is compressed beyond sense")
                with ONE_AT_A_TIME, archive.open(about) as file:
                    _header(file, about.file_size, letters)
                with ONE_AT_A_TIME, archive.open(about) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
        return arrays
    except Exception as error:  # zip files and headers fail in many ways
        raise damaged(path, error, cure) from error


def _header(file: IO[bytes], size: int, kinds: str) -> tuple[int, ...]:
    """The shape that the header of an array in `size` bytes gives, checked."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its format is {version[0]}.{version[1]}, which is not used for plain arrays")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject or dtype.kind not in kinds:
        raise ValueError(f"it holds values of type {dtype}" + (" (pickled objects)" if dtype.hasobject else ""))
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise ValueError(f"its shape is {list(shape)}")
    needs, has = math.prod(shape) * dtype.itemsize, size - file.tell()
    if needs != has:
        raise ValueError(f"its shape {list(shape)} of {dtype} needs {needs:,} bytes, there are {has:,}")
    return tuple(shape)
