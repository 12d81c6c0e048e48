"""Where what the user need not see is kept from one command to the next."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(name: str) -> Path:
    """The folder of that name in $PULLPUSH_CACHE, else in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("PULLPUSH_CACHE") or Path(base) / "pullpush") / name
