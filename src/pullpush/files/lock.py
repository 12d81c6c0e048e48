"""A lock that ends with the process, also when that is killed."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pullpush.errors import UserError
from pullpush.files.write import unwritable

__all__ = ["Held", "locked"]

LOOK = 0.02  # seconds between two looks whether the holder has ended

# A lock ends when its last descriptor is closed: a forked child (a worker that decodes images) must not keep it.
_held: set[int] = set()


def _let_go() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


class Held(UserError):
    """Another process holds the lock."""


@contextmanager
def locked(
    path: str | os.PathLike[str], busy: str, then: str = "", *, wait: float = 0.0, create: bool = True
) -> Iterator[None]:
    """Holds the lock file `path`, which stays in place, while the block runs. The system ends it with the process.

    Where the file system has no locks, nothing is locked.

    Args:
        path: the lock file; the process id of its holder is written into it.
        busy: the message where another process (or another block of this one) holds it; `{holder}` is its process id.
        then: what to do after the cure where it can't be made, for the message (`replacing`).
        wait: seconds to wait for the holder.
        create: make the folder of the file where it is missing.

    Raises:
        Held: it is held.
        UserError: it can't be made, or was removed while we waited.
    """
    end = time.monotonic() + wait
    try:
        if create:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise unwritable(path, error, then) from error
    _held.add(descriptor)
    try:
        with suppress(OSError):  # a full disk, or no locks here
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= end:
                        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                        raise Held(busy.replace("{holder}", holder)) from None
                    time.sleep(LOOK)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        if not os.fstat(descriptor).st_nlink:
            raise unwritable(path, FileNotFoundError(errno.ENOENT, "it was removed"), then)
        yield
    finally:
        if descriptor in _held:  # else this is a forked child, which has closed it
            _held.discard(descriptor)
            with suppress(OSError):  # at once, though a child that has just been forked may not have closed it yet
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
