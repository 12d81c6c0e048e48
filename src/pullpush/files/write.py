"""The one way to write a file: whole or not at all."""

import errno
import fcntl
import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pullpush.errors import UserError
from pullpush.names import fresh

__all__ = [
    "append_text",
    "beside",
    "is_full",
    "replacing",
    "replacing_folder",
    "sync",
    "unwritable",
    "write_bytes",
    "write_json",
    "write_text",
]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
# What writers that are not Python's say of a disk that is full: torch, safetensors, Arrow, NumPy.
FULL_SIGNS = (
    "no space left",
    "file too large",
    "disk quota exceeded",
    "pytorchstreamwriter failed writing",
    "file write failed",
    "disk is full",
    " requested and ",
)


@contextmanager
def replacing(path: str | os.PathLike[str], then: str = "") -> Iterator[Path]:
    """Yields a path beside `path` to write to, and puts what was written there in its place.

        with replacing(folder / "rows.npy") as part, part.open("wb") as file:
            np.save(file, rows)

    The part is flushed to the disk (fsync), renamed, and the folder is flushed: a kill or a power cut at any point
    leaves the old file or the new one. On an error the part is removed, and the old file stays. Writers of the same
    path don't disturb each other; what a killed one left behind is removed by the next.

    Args:
        path: the file to write; its folder is made where it is missing.
        then: what to do after the cure, for the message ("then continue with --resume runs/mine").

    Raises:
        UserError: the disk is full, or the folder can't be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part, descriptor = _part_of(path)
    except OSError as error:
        raise unwritable(path, error, then) from error
    try:
        yield part
        sync(part)
        os.replace(part, path)
        sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, Exception) and _of_the_disk(error):
            raise unwritable(path, error, then) from error
        raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """As `replacing`, of a whole folder: what is written into the one that it yields is flushed and takes its place.

    Killed between the two renames that replace a folder, the old one lies in `beside(folder, "previous")`. The folder
    that it lies in must be there. Errors of the disk are raised as they are.
    """
    partial, previous = beside(folder, "partial"), beside(folder, "previous")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a writer that was killed
        partial.mkdir()
        yield partial
        for written in [*partial.rglob("*"), partial]:
            sync(written)
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            folder.rename(previous)
        partial.rename(folder)
        sync(folder.parent)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def beside(folder: Path, what: str) -> Path:
    """Where `replacing_folder` has the new folder (`partial`) and the old one (`previous`) on their way."""
    return folder.with_name(f".{folder.name}.{what}")


def write_bytes(path: str | os.PathLike[str], content: bytes, then: str = "") -> None:
    """Writes `content`, whole or not at all; Args and Raises as of `replacing`."""
    with replacing(path, then) as part:
        part.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str, then: str = "") -> None:
    """Writes `content` as UTF-8, whole or not at all; Args and Raises as of `replacing`.

    Bytes of file names that are no UTF-8 (Python's surrogates) are written as they are on the disk.
    """
    write_bytes(path, content.encode("utf-8", "surrogateescape"), then)


def append_text(path: str | os.PathLike[str], content: str, then: str = "") -> None:
    """Adds `content` to the end of a file, not flushed to the disk; Args and Raises as of `replacing`."""
    try:
        with open(path, "ab") as file:
            file.write(content.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise unwritable(path, error, then) from error


def write_json(path: str | os.PathLike[str], values: Any, then: str = "") -> None:
    """Writes `values` as JSON, whole or not at all; Args and Raises as of `replacing`."""
    write_text(path, json.dumps(values, indent=2) + "\n", then)


def sync(path: str | os.PathLike[str]) -> None:
    """Flushes a file or a folder to the disk. Some file systems can't flush folders; that is no error."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def unwritable(path: str | os.PathLike[str], error: BaseException, then: str = "") -> UserError:
    """The error that says why `path` can't be written and what to do about it."""
    cause = _of_the_disk(error) or error
    reason = (cause.strerror if isinstance(cause, OSError) else None) or str(cause).splitlines()[0]
    if _is_of_space(cause):
        reason, cure = "the disk is full", "make room on it"
    elif getattr(cause, "errno", None) in CLOSED:
        cure = "make the folder writable, or choose another"
    else:
        cure = "choose a place that can be written"
    return UserError(f"can't write {str(path)!r}: {reason}; {cure}{', ' + then if then else ''}")


def _of_the_disk(error: BaseException) -> BaseException | None:
    """The error of the file system in a chain of errors: libraries wrap it in errors of their own."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, UserError):
        if isinstance(seen, OSError) or _says_full(seen):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it comes from, is for want of space."""
    while error is not None:
        if _is_of_space(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_of_space(error: BaseException) -> bool:
    number = getattr(error, "errno", None)
    return number in FULL or (number is None and _says_full(error))


def _says_full(error: BaseException) -> bool:
    return any(sign in str(error).lower() for sign in FULL_SIGNS)


def _part_of(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, locked as long as its descriptor is open, by which others see that its writer lives."""
    for old in path.parent.glob(f".{glob.escape(_short(path.name))}.*.part"):
        with suppress(OSError):
            _remove_if_dead(old)
    while True:
        # Names have a limit of 255 bytes; the middle of a long one is enough to tell whose part it is.
        part = path.with_name(f".{_short(path.name)}.{fresh()}.part")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.exists(part):  # else another writer took it for dead, before it was locked
                return part, descriptor
        except OSError:  # a file system without locks
            return part, descriptor
        os.close(descriptor)


def _remove_if_dead(part: Path) -> None:
    descriptor = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _short(name: str) -> str:
    return name if len(os.fsencode(name)) <= 200 else os.fsdecode(os.fsencode(name)[:200])
