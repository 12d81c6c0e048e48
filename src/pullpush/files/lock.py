"""A lock that ends with the process, also when that is killed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pullpush.errors import UserError
from pullpush.files.write import unwritable

__all__ = ["locked"]


@contextmanager
def locked(path: str | os.PathLike[str], busy: str) -> Iterator[None]:
    """Holds the lock file `path`, which stays in place, while the block runs.

    Args:
        path: the lock file; the process id of its holder is written into it.
        busy: the message where another process (or another block of this one) holds it; `{holder}` is its process id.

    Raises:
        UserError: it is held, or can't be made.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise UserError(busy.format(holder=holder)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
