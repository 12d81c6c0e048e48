"""Files of images: looked for in folders, and read; never anything but regular files."""

import gzip
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pullpush.files import write_bytes
from pullpush.files.cache import cache_folder
from pullpush.images.formats import SUFFIXES

__all__ = [
    "MAX_BYTES",
    "archived",
    "file_of",
    "find_images",
    "idx_bytes",
    "idx_writer",
    "keep_images",
    "read_idx",
    "read_regular",
]

MAX_BYTES = 1 << 30
"""Larger files are not read as images."""
SYSTEM = ("/dev", "/proc", "/sys")
"""Trees of devices and processes: no images, and no end."""
_IDX = re.compile(r"^(?P<file>.*ubyte(?:\.gz)?)#(?P<row>\d+)$")
_KINDS = {
    **{stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"},
    **{stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"},
}


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file; a pipe, socket, device or folder is refused without waiting for it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or larger than `MAX_BYTES`.
    """
    _refuse(os.stat(path).st_mode)  # before it is opened: opening a device may already do something
    # O_NONBLOCK, for the case that a pipe takes the file's place between the two calls.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
        status = os.fstat(file.fileno())
        _refuse(status.st_mode)
        if status.st_size > MAX_BYTES:
            raise ValueError(f"the file has {status.st_size:,} bytes; the limit of an image is {MAX_BYTES:,}")
        return file.read(status.st_size)  # read(MAX_BYTES) would ask for all of it at once


def find_images(root: str | os.PathLike[str], suffixes: Collection[str] = SUFFIXES) -> tuple[list[str], Counter[str]]:
    """The files of images, or of another kind, below a folder: the one walk through folders of users.

    Wanted are regular files, or links to them, with one of the suffixes. Names that begin with a dot are left out
    uncounted. Links to folders are followed, each folder once, but neither to a folder that holds `root` itself, nor
    into `SYSTEM`.

    Args:
        root: the folder.
        suffixes: of the files, in lower case.

    Returns:
        The paths, in order, and what was left out, counted: by suffix, or by what it is.
    """
    files: list[str] = []
    left_out, seen = Counter[str](), set[str]()
    top = os.path.realpath(root)
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or _beyond(real, top):
            if real not in seen:
                of_system = _of_system(real)
                left_out["linked folders of the system" if of_system else "links to a folder around this one"] += 1
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path, suffix = os.path.join(folder, name), os.path.splitext(name)[1].lower()
            if suffix not in suffixes:
                left_out[suffix or "without a suffix"] += 1
            elif os.path.isfile(path) or not os.path.exists(path):  # a link to nothing is named when it is read
                files.append(path)
            else:
                left_out["pipes, sockets or devices"] += 1
    return files, left_out


def archived(path: str | os.PathLike[str]) -> NDArray[np.uint8] | None:
    """The array of image 7 of an idx archive for the path `FILE-ubyte.gz#7`, None for any other path."""
    part = _IDX.match(os.fspath(path))
    if part is None:
        return None
    images, row = read_idx(part["file"]), int(part["row"])
    if row >= len(images):
        raise ValueError(f"the archive holds {len(images)} images only")
    image: NDArray[np.uint8] = images[row]
    return image


def file_of(path: str) -> str:
    """The file that an image is in: the archive of one in an archive, else the path itself."""
    part = _IDX.match(path)
    return path if part is None else part["file"]


@lru_cache(maxsize=8)
def read_idx(path: str) -> NDArray[np.uint8]:
    """The array in an idx file (plain or .gz), the format of MNIST and Fashion-MNIST; unsigned bytes only.

    A plain file is memory-mapped: of any size, and once in memory for all processes.
    """
    if path.endswith(".gz"):
        raw = np.frombuffer(gzip.decompress(read_regular(path)), np.uint8)
    else:
        _refuse(os.stat(path).st_mode)
        raw = np.memmap(path, np.uint8, "r") if os.path.getsize(path) else np.empty(0, np.uint8)
    if len(raw) < 4 or raw[:3].tobytes() != b"\x00\x00\x08":
        raise ValueError("not an idx file of unsigned bytes")
    start = 4 + 4 * int(raw[3])
    shape = np.frombuffer(raw[4:start].tobytes(), ">u4").astype(int)
    if len(raw) - start != int(np.prod(shape)):
        raise ValueError(f"the idx file announces {int(np.prod(shape))} bytes and holds {len(raw) - start}")
    return np.asarray(raw[start:]).reshape(shape)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """The content of an idx file with this array, as `read_idx` reads it."""
    return _idx_header(array.shape) + array.tobytes()


@contextmanager
def idx_writer(path: Path, shape: tuple[int, ...]) -> Iterator[Callable[[bytes], int]]:
    """Yields what writes the next image of that shape into an idx file, from its pixels, and gives its number."""
    rows = count()
    with path.open("wb") as file:
        file.write(_idx_header((0, *shape)))

        def write(pixels: bytes) -> int:
            file.write(pixels)
            return next(rows)

        yield write
        file.seek(0)
        file.write(_idx_header((next(rows), *shape)))


def keep_images(folder: str, images: NDArray[np.uint8], ending: str = "-ubyte") -> list[str]:
    """Writes images `[n, h, w]` into one archive in a folder of the cache, named by its content; the path of each."""
    content = idx_bytes(images)
    archive = cache_folder(folder) / f"{hashlib.sha256(content).hexdigest()[:32]}{ending}"
    if not archive.exists():
        write_bytes(archive, content)
    return [f"{archive}#{row}" for row in range(len(images))]


def _idx_header(shape: tuple[int, ...]) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


def _refuse(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError(f"this is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}")


def _beyond(real: str, top: str) -> bool:
    around = real != top and Path(top).is_relative_to(real)
    return around or (_of_system(real) and not _of_system(top))


def _of_system(real: str) -> bool:
    return any(real == tree or real.startswith(tree + "/") for tree in SYSTEM)
