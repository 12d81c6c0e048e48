"""Features of a frozen backbone: computed once, kept on disk, memory-mapped."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pullpush.data.items import Items

__all__ = ["cache_folder", "cached_features", "features_key", "texts_key"]


def cache_folder() -> Path:
    """Where features are kept: $PULLPUSH_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("PULLPUSH_CACHE") or Path(base) / "pullpush") / "features"


def cached_features(key: str, compute: Callable[[], Tensor]) -> Tensor:
    """float32 [n, width] from the cache, computed at the first call with this key.

    Written beside and renamed, so processes that want the same features may race.
    """
    path = cache_folder() / f"{key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.part")
        with beside.open("wb") as file:
            np.save(file, compute().numpy())
        os.replace(beside, path)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def features_key(backbone: nn.Module, about: str, items: Items) -> str:
    """A hash of the backbone's weights, what is said `about` it, and path, box, size and time of each image.

    A change of any of these makes a new key.
    """
    digest = _digest(backbone, about)
    for row in range(len(items)):
        path = items.path(row)
        stat = os.stat(path) if os.path.exists(path) else None
        seen = [path, items.box(row), stat and [stat.st_size, stat.st_mtime_ns]]
        digest.update(json.dumps(seen).encode())
    return digest.hexdigest()[:32]


def texts_key(backbone: nn.Module, about: str, texts: Sequence[str]) -> str:
    """The same for descriptions: a hash of the backbone's weights, what is said `about` it, and the texts."""
    digest = _digest(backbone, about)
    digest.update(json.dumps(list(texts)).encode())
    return digest.hexdigest()[:32]


def _digest(backbone: nn.Module, about: str) -> Any:
    digest = hashlib.sha256(about.encode())
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest
