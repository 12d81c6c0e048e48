"""Where images lie that are on their way into an index."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from pullpush.search.layout import explained

__all__ = ["clean", "keep", "staged"]

PREFIX = "adding-"


@contextmanager
def staged(index: Path) -> Iterator[Path]:
    """A folder on the disk of the index, gone at the end with whatever was not moved out of it. Those of processes that
    were killed go too.

    Raises: `NoIndex` and `DiskFull`, as `layout.writer`.
    """
    with explained(index):
        clean(index)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=index))
        held = os.open(folder, os.O_RDONLY)
    try:
        with explained(index):
            fcntl.flock(held, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def clean(index: Path) -> None:
    """Removes the folders of processes that were killed: nobody holds their locks."""
    for folder in index.glob(f"{PREFIX}*"):
        try:
            held = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # it is in use
        finally:
            os.close(held)


def keep(image: Image.Image, folder: Path) -> Path:
    """Writes an RGB image into `folder` as PNG, under the checksum of its pixels."""
    file = folder / hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
    image.save(file, "PNG", compress_level=1)  # a large photograph in one second instead of six
    return file
