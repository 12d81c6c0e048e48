"""An index on disk, and how a new version of it becomes the published one.

    INDEX/
      CURRENT           the name of the published version and the sha256 of its record: replaced by an atomic rename
      writer.lock       held by the one process that writes
      uploads/          images that were added by hand
      versions/000007/  manifest.json (the record), items.parquet, map.npy, thumbnails, the store's files
      building/         embeddings of a build that was stopped; the next one continues from them

A version is written beside the others, flushed to the disk, renamed, and only then named in CURRENT. Whatever happens
in between, CURRENT names a whole version. Version folders are never changed afterwards.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pullpush.errors import UserError
from pullpush.files import sync, write_text
from pullpush.files.write import FULL
from pullpush.search.errors import BeingWritten, DiskFull, NoIndex

__all__ = [
    "BUILDING",
    "KEPT",
    "LOCK",
    "POINTER",
    "RECORD",
    "UPLOADS",
    "VERSIONS",
    "WAIT",
    "Manifest",
    "current",
    "digest",
    "drop_unfinished",
    "explained",
    "is_full",
    "no_index",
    "prune",
    "publish",
    "staging",
    "stamp",
    "verify",
    "writer",
]

FORMAT = 1
POINTER, LOCK, VERSIONS, BUILDING, RECORD = "CURRENT", "writer.lock", "versions", "building", "manifest.json"
UPLOADS = "uploads"
WAIT, LOOK = 10.0, 0.02
"""Seconds that a writer waits for another one, and between two looks whether it has ended."""
LITTLE = 1 << 20
"""Bytes: a write that fails for no stated reason on a disk with less space than this fails for want of it."""
KEPT = 2
"""Versions that stay on disk: the published one, and one before for readers that are just opening it."""


@dataclass
class Manifest:
    """The record of one version.

    `fingerprint`, `dim`, `model`, `text`: the model (its path, and whether it has a text tower); `source`, `store`:
    what was given; `facts`: what the store reports (kind, rows, recall@10 and the
    queries that it was measured with); `calibration`: see `calibration.py`;
    `next_id`: ids below it are taken; `unreadable`: `[path, reason]` of files passed over; `excluded`: paths that were
    removed by hand; `files`: name -> bytes and sha256; `uid`: of the index, the same in all its versions.
    """

    version: int
    uid: str
    fingerprint: str
    dim: int
    model: str
    text: bool
    source: str
    store: str
    count: int
    next_id: int
    facts: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    unreadable: list[list[str]] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: str = ""
    format: int = FORMAT


def current(index: Path) -> tuple[Path, Manifest] | None:
    """The published version's folder and record; None where nothing was published yet.

    Raises: `UserError` when what CURRENT names is damaged or was written by a later pullpush.
    """
    for _ in range(5):  # the version may be replaced twice, and removed, between reading CURRENT and opening it
        try:
            name, digest = (index / POINTER).read_text(encoding="ascii").split()
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UserError(f"{index / POINTER} is damaged; restore the index from a copy or build it anew") from error
        folder = index / VERSIONS / name
        try:
            raw = (folder / RECORD).read_bytes()
        except FileNotFoundError:
            continue
        if hashlib.sha256(raw).hexdigest() != digest:
            raise UserError(
                f"{folder / RECORD} or {index / POINTER} is damaged (the checksum differs); restore the index from a "
                "copy or build it anew"
            )
        record = json.loads(raw)
        if record.get("format") != FORMAT:
            raise UserError(
                f"{index} has the format {record.get('format')}, this pullpush reads {FORMAT}; use the pullpush "
                f"that wrote it"
            )
        return folder, Manifest(**record)
    raise UserError(f"{index} names a version that is not there; restore the index from a copy or build it anew")


def stamp(index: Path) -> tuple[int, int]:
    """Changes whenever another version is published; cheap enough for every query."""
    status = os.stat(os.path.join(index, POINTER))  # a Path is slow to join
    return status.st_ino, status.st_mtime_ns


@contextmanager
def writer(
    index: Path, wait: float | None = None, create: bool = False, tidy: Callable[[Path], None] | None = None
) -> Iterator[None]:
    """The one writer of an index. The lock ends with the process, also when that is killed.

    `wait`: seconds to wait for another one (`WAIT`). `create`: make the folder where there is none. `tidy`: called
    where the work fails, to remove what it left behind.

    Raises: `BeingWritten` when another process still holds the lock; `NoIndex` when there is no index, or it is deleted
    meanwhile; `DiskFull`.
    """
    if create:
        index.mkdir(parents=True, exist_ok=True)
    elif not (index / POINTER).exists():
        raise no_index(index)
    with _locked(index, WAIT if wait is None else wait, create), explained(index, create, tidy):
        yield


@contextmanager
def explained(index: Path, create: bool = False, tidy: Callable[[Path], None] | None = None) -> Iterator[None]:
    """Around whatever writes below `index`.

    Raises: `DiskFull` and `NoIndex` for errors that come of a full disk or a deleted folder; others as they are.
    """
    try:
        yield
    except (DiskFull, NoIndex):
        raise
    except Exception as error:
        full = is_full(error, index)  # asked before anything is removed
        gone = not create and not (index / POINTER).exists()
        if tidy is not None:
            with suppress(OSError, UserError):
                tidy(index)
        if full:
            raise _disk_full(index) from error
        if gone:
            raise no_index(index) from error
        raise


@contextmanager
def _locked(index: Path, wait: float, create: bool) -> Iterator[None]:
    with explained(index, create):
        descriptor = os.open(index / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(index, descriptor, time.monotonic() + wait)
        yield
    finally:
        os.close(descriptor)


def _lock(index: Path, descriptor: int, end: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise BeingWritten(
                    f"{index} is being written by another process (number {holder}); wait until it has ended"
                ) from None
            time.sleep(LOOK)
    if not os.fstat(descriptor).st_nlink:
        raise no_index(index)  # deleted while we waited
    with suppress(OSError):  # a full disk: nobody is told the number
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def is_full(error: BaseException | None, place: Path | None = None) -> bool:
    """Whether an error, or one that it comes from, is for want of space. Writers in C++ often do not say: theirs are
    judged by the space that is left where `place` lies."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number in FULL:
            return True
        if isinstance(error, OSError | RuntimeError) and number is None and place is not None and place.exists():
            status = os.statvfs(place)
            if status.f_bavail * status.f_frsize < LITTLE:
                return True
        error = error.__cause__ or error.__context__
    return False


def _disk_full(index: Path) -> DiskFull:
    return DiskFull(
        f"no space is left on the disk of {index}; free some and do the same again. The published version is as it was"
    )


def no_index(index: Path) -> NoIndex:
    """The error where there is none."""
    return NoIndex(f"there is no index in {index}; build one with: pullpush index RUN --images FOLDER --out {index}")


def staging(index: Path, version: int) -> Path:
    """An empty folder for a version that is being written. Call as the writer: what a crash left behind is removed."""
    versions = index / VERSIONS
    versions.mkdir(exist_ok=True)
    drop_unfinished(index)
    folder = versions / f"{version:06d}.part"
    folder.mkdir()
    return folder


def drop_unfinished(index: Path) -> None:
    """Removes versions that were not published, and files that were not renamed. Call as the writer."""
    published = current(index)
    last = published[1].version if published is not None else 0
    for folder in (index / VERSIONS).glob("*"):
        if not folder.name.isdigit() or int(folder.name) > last:
            shutil.rmtree(folder)
    for pattern in ("*.part", f"{BUILDING}/*.part"):
        for file in index.glob(pattern):
            file.unlink()


def publish(
    index: Path, folder: Path, manifest: Manifest, ready: Callable[[Manifest, Path], None] | None = None
) -> Path:
    """Makes the staged `folder` the published version and returns where it now lies. `ready` is told of it just
    before."""
    names = sorted(path.name for path in folder.iterdir())
    manifest.files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": digest(folder / name)} for name in names
    }
    raw = json.dumps(asdict(manifest), indent=1).encode()
    (folder / RECORD).write_bytes(raw)
    for name in [*names, RECORD]:
        sync(folder / name)
    sync(folder)
    final = index / VERSIONS / f"{manifest.version:06d}"
    os.rename(folder, final)
    sync(index / VERSIONS)
    if ready is not None:
        ready(manifest, final)
    write_text(index / POINTER, f"{final.name} {hashlib.sha256(raw).hexdigest()}\n")
    return final


def prune(index: Path) -> None:
    """Removes versions that no new reader can ask for. Open ones stay readable: their files are mapped."""
    folders = sorted(folder for folder in (index / VERSIONS).iterdir() if folder.name.isdigit())
    for folder in folders[:-KEPT]:
        shutil.rmtree(folder)


def verify(folder: Path, manifest: Manifest, skip: str = "") -> None:
    """Compares every file with its size and checksum (of files whose name begins with `skip`, the size only).

    Raises: `UserError` naming the first file that differs; `FileNotFoundError` when the version was removed meanwhile.
    """
    for name, known in manifest.files.items():
        path = folder / name
        same = path.stat().st_size == known["bytes"]
        if same and not (skip and name.startswith(skip)):
            same = digest(path) == known["sha256"]
        if not same:
            raise UserError(f"{path} is damaged (its checksum differs); restore the index from a copy or build it anew")


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
