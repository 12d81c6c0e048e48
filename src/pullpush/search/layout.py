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

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pullpush.errors import UserError
from pullpush.files import locked, write_text
from pullpush.files.lock import Held
from pullpush.files.write import is_full, replacing_folder
from pullpush.search.errors import DiskFull, NoIndex

__all__ = [
    "BUILDING",
    "INDEXES",
    "KEPT",
    "LOCK",
    "POINTER",
    "RECORD",
    "UPLOADS",
    "VERSIONS",
    "WAIT",
    "Manifest",
    "current",
    "default_index",
    "digest",
    "drop_unfinished",
    "explained",
    "no_index",
    "prune",
    "publishing",
    "stamp",
    "verify",
    "writer",
]

FORMAT = 1
POINTER, LOCK, VERSIONS, BUILDING, RECORD = "CURRENT", "writer.lock", "versions", "building", "manifest.json"
UPLOADS = "uploads"
INDEXES = Path("indexes")
"""Where indexes lie, unless another folder is said."""
CURE = "restore the index from a copy or build it anew"
WAIT = 10.0
"""Seconds that a writer waits for another one."""
KEPT = 2
"""Versions that stay on disk: the published one, and one before for readers that are just opening it."""


@dataclass
class Manifest:
    """The record of one version.

    Attributes:
        version: its number, from 1.
        uid: of the index, the same in all its versions.
        fingerprint, dim: of the model.
        model: its path or its name, "" where it had none.
        weights: the files of weights that were given with its name.
        text: whether it has a text tower.
        source, store: what was given.
        count: items.
        next_id: ids below it are taken.
        facts: what the store reports: kind, rows, recall@10 and the queries that it was measured with.
        calibration: see `calibration.py`.
        decision: the values of the model's `Decision`, empty where it has none.
        unreadable: `[path, reason]` of files passed over.
        excluded: paths that were removed by hand.
        files: name -> bytes and sha256.
        created: when, in UTC.
        format: of the record.
    """

    version: int = 0
    uid: str = ""
    fingerprint: str = ""
    dim: int = 0
    model: str = ""
    text: bool = False
    source: str = ""
    store: str = ""
    count: int = 0
    next_id: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)
    rerank: dict[str, Any] = field(default_factory=dict)
    weights: list[str] = field(default_factory=list)
    unreadable: list[list[str]] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: str = ""
    format: int = FORMAT


def default_index(folder: str | os.PathLike[str] = INDEXES) -> Path:
    """The index in `folder` that was published last.

    Raises: `UserError` when there is none.
    """
    indexes = [path.parent for path in Path(folder).glob(f"*/{POINTER}")]
    if not indexes:
        raise UserError(
            f"there is no index in {folder}; build one with: pullpush index RUN --images FOLDER, or name one"
        )
    return max(indexes, key=lambda index: (index / POINTER).stat().st_mtime_ns)


def current(index: Path) -> tuple[Path, Manifest] | None:
    """The published version's folder and record; None where nothing was published yet.

    Raises: `UserError` when what CURRENT names is damaged or was written by a later pullpush; `FileNotFoundError` when
    it is not there, as where a writer has removed it meanwhile.
    """
    try:
        name, expected = (index / POINTER).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{index / POINTER} is damaged; {CURE}") from error
    folder = index / VERSIONS / name
    raw = (folder / RECORD).read_bytes()
    if hashlib.sha256(raw).hexdigest() != expected:
        raise UserError(f"{folder / RECORD} or {index / POINTER} is damaged (the checksum differs); {CURE}")
    record = json.loads(raw)
    if record.get("format") != FORMAT:
        raise UserError(
            f"{index} has the format {record.get('format')}, this pullpush reads {FORMAT}; use the pullpush that "
            "wrote it"
        )
    return folder, Manifest(**record)


def stamp(index: Path) -> tuple[int, int]:
    """Changes whenever another version is published; cheap enough for every query. Raises: `NoIndex`."""
    try:
        status = os.stat(os.path.join(index, POINTER))  # a Path is slow to join
    except FileNotFoundError:
        raise no_index(index) from None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def writer(
    index: Path, wait: float | None = None, create: bool = False, tidy: Callable[[Path], None] | None = None
) -> Iterator[None]:
    """The one writer of an index. The lock ends with the process, also when that is killed.

    Args:
        index: the folder.
        wait: seconds to wait for another one (`WAIT`).
        create: make the folder where there is none.
        tidy: called where the work fails, to remove what it left behind.

    Raises:
        Held: another process still holds the lock.
        NoIndex: there is no index, or it was deleted while it was written.
        DiskFull: no space is left.
    """
    if create:
        index.mkdir(parents=True, exist_ok=True)
    elif not (index / POINTER).exists():
        raise no_index(index)
    busy = f"{index} is being written by another process (number {{holder}}); wait until it has ended"
    lock = locked(index / LOCK, busy, wait=WAIT if wait is None else wait, create=False)
    with explained(index, create), lock, explained(index, create, tidy):
        yield


@contextmanager
def explained(index: Path, create: bool = False, tidy: Callable[[Path], None] | None = None) -> Iterator[None]:
    """Around whatever writes below `index`.

    Raises: `DiskFull` and `NoIndex` for errors that come of a full disk or a deleted folder; others as they are.
    """
    try:
        yield
    except (DiskFull, Held, NoIndex):
        raise
    except Exception as error:
        gone = not create and not (index / POINTER).exists()
        if tidy is not None:
            with suppress(OSError, UserError):  # the error that is raised matters more; the next writer tidies again
                tidy(index)
        if is_full(error):
            raise DiskFull(
                f"no space is left on the disk of {index}; free some and do the same again. The published version is "
                "as it was"
            ) from error
        if gone:
            raise no_index(index) from error
        raise


def no_index(index: Path) -> NoIndex:
    """The error where there is none."""
    return NoIndex(f"there is no index in {index}; build one with: pullpush index RUN --images FOLDER --out {index}")


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


@contextmanager
def publishing(
    index: Path, manifest: Manifest, ready: Callable[[Manifest, Path], None] | None = None
) -> Iterator[Path]:
    """Yields an empty folder for a version, which is then the published one. Call as the writer: what a crash left
    behind is removed.

    Args:
        index: the folder of the index.
        manifest: its record, `version` filled in; the rest may be filled in until the block ends.
        ready: told of the version just before it is named in CURRENT.
    """
    (index / VERSIONS).mkdir(exist_ok=True)
    drop_unfinished(index)
    final = index / VERSIONS / f"{manifest.version:06d}"
    with replacing_folder(final) as folder:
        yield folder
        manifest.files = {
            path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in sorted(folder.iterdir())
        }
        raw = json.dumps(asdict(manifest), indent=1).encode()
        (folder / RECORD).write_bytes(raw)
    if ready is not None:
        ready(manifest, final)
    write_text(index / POINTER, f"{final.name} {hashlib.sha256(raw).hexdigest()}\n")


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
            raise UserError(f"{path} is damaged (its checksum differs); {CURE}")


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
