"""Where images lie that are on their way into an index."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from PIL import Image

from pullpush.errors import UserError
from pullpush.files import locked
from pullpush.search.layout import explained

__all__ = ["clean", "keep", "staged"]

PREFIX, LOCK = "adding-", ".lock"
TRIES = 10


@contextmanager
def staged(index: Path, create: bool = False) -> Iterator[Path]:
    """A folder on the disk of the index, gone at the end with whatever was not moved out of it. Those of processes that
    were killed go too. `create`: make the folder of the index where there is none.

    Raises: `NoIndex` and `DiskFull`, as `layout.writer`.
    """
    with explained(index, create), ExitStack() as held:
        if create:
            index.mkdir(parents=True, exist_ok=True)
        clean(index)
        yield _made(index, held)


def _made(index: Path, held: ExitStack) -> Path:
    """A new folder, whose lock is held."""
    attempts = count(1)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=index))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            held.enter_context(locked(folder / LOCK, "it is in use", create=False))
            return folder
        except UserError:  # before its lock was held another process took it for that of one which was killed
            if next(attempts) == TRIES:
                raise


def clean(index: Path) -> None:
    """Removes the folders of processes that were killed: nobody holds their locks."""
    for folder in index.glob(f"{PREFIX}*"):
        with suppress(UserError), locked(folder / LOCK, "it is in use", create=False):  # or gone meanwhile
            shutil.rmtree(folder, ignore_errors=True)


def keep(image: Image.Image, folder: Path) -> Path:
    """Writes an RGB image into `folder` as PNG, under the checksum of its pixels."""
    file = folder / hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
    image.save(file, "PNG", compress_level=1)  # a large photograph in one second instead of six
    return file
