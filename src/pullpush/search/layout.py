"""An index on disk, and how a new version of it becomes the published one.

    INDEX/
      CURRENT           the name of the published version and the sha256 of its record: replaced by an atomic rename
      writer.lock       held by the one process that writes
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pullpush.errors import UserError

FORMAT = 1
POINTER, LOCK, VERSIONS, BUILDING, RECORD = "CURRENT", "writer.lock", "versions", "building", "manifest.json"
KEPT = 2
"""Versions that stay on disk: the published one, and one before for readers that are just opening it."""


@dataclass
class Manifest:
    """The record of one version.

    `fingerprint`, `dim`, `model`, `text`: the model (its path, and whether it has a text tower); `source`, `store`:
    what was given; `facts`: what the store reports (kind, rows, recall@10); `calibration`: see `calibration.py`;
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
                f"{folder / RECORD} is damaged (its checksum differs); restore the index from a copy or build it anew"
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
def writer(index: Path) -> Iterator[None]:
    """The one writer of an index. The lock ends with the process, also when that is killed.

    Raises: `UserError` when another process holds it.
    """
    index.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(index / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise UserError(
                f"{index} is being written by another process (number {holder}); wait until it has ended"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def staging(index: Path, version: int) -> Path:
    """An empty folder for a version that is being written. Call as the writer: what a crash left behind is removed."""
    versions = index / VERSIONS
    versions.mkdir(parents=True, exist_ok=True)
    published = current(index)
    for folder in versions.iterdir():
        unfinished = not folder.name.isdigit() or int(folder.name) >= version
        if unfinished and (published is None or folder != published[0]):
            shutil.rmtree(folder)
    folder = versions / f"{version:06d}.part"
    folder.mkdir()
    return folder


def publish(index: Path, folder: Path, manifest: Manifest) -> Path:
    """Makes the staged `folder` the published version and returns where it now lies."""
    names = sorted(path.name for path in folder.iterdir())
    manifest.files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": digest(folder / name)} for name in names
    }
    raw = json.dumps(asdict(manifest), indent=1, ensure_ascii=False).encode()
    (folder / RECORD).write_bytes(raw)
    for name in [*names, RECORD]:
        flush(folder / name)
    flush(folder)
    final = index / VERSIONS / f"{manifest.version:06d}"
    os.rename(folder, final)
    flush(index / VERSIONS)
    beside = index / f"{POINTER}.part"
    beside.write_text(f"{final.name} {hashlib.sha256(raw).hexdigest()}\n", encoding="ascii")
    flush(beside)
    os.replace(beside, index / POINTER)
    flush(index)
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


def flush(path: Path) -> None:
    """fsync of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
