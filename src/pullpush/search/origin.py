"""Whose an index is, and so which files of this machine may be read because it names them.

An index says where its images lie. One that somebody else made can name any file, and whoever serves it would show
that file to all who ask. So a version is noted with the user, outside of the index, when it is written here; only of
those that stand there every file is shown.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from pullpush.errors import UserError
from pullpush.files import write_text
from pullpush.files.cache import cache_folder
from pullpush.search import layout
from pullpush.search.layout import Manifest

__all__ = ["check_uploads", "made_here", "note", "within"]

KEPT = 100
"""Versions of an index that are noted; copies of it go on by themselves."""


def note(manifest: Manifest, folder: Path) -> None:
    """The version in `folder` was made here. Where that cannot be noted it counts as a stranger's."""
    with suppress(OSError, ValueError):
        write_text(_place(manifest), "\n".join([*_noted(manifest)[-KEPT:], layout.digest(folder / layout.RECORD)]))


def made_here(manifest: Manifest, folder: Path) -> bool:
    """Whether the version in `folder` was."""
    return layout.digest(folder / layout.RECORD) in _noted(manifest)


def _noted(manifest: Manifest) -> list[str]:
    try:
        return _place(manifest).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []  # nothing that can be read is noted: then nothing counts as made here


def within(path: str | os.PathLike[str], folders: Iterable[str | os.PathLike[str]]) -> bool:
    """Whether a file lies below one of the folders, wherever links lead. `path` can name a part of it (`FILE#7`)."""
    real = os.path.realpath(path)
    return any(real.startswith(os.path.join(os.path.realpath(folder), "")) for folder in folders)


def check_uploads(index: Path, paths: Sequence[str], origins: Sequence[str]) -> None:
    """Raises: `UserError` where what is said to be an upload does not lie among the uploads: it would be removed with
    its item."""
    for path in pd.unique(pd.Series(paths, dtype=object)[pd.Series(origins) == "upload"]):
        if Path(path).parts != (layout.UPLOADS, Path(path).name) or Path(path).name == "..":
            raise UserError(f"{index} names a file outside as an upload, so somebody has changed it; build it anew")


def _place(manifest: Manifest) -> Path:
    if not manifest.uid.isalnum():
        raise ValueError("no uid of ours")
    return cache_folder("indexes") / manifest.uid
