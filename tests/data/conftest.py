from pathlib import Path

import numpy as np
import pytest

from pullpush.data.items import Items


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, an empty one."""
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fake_items():
    """Items without files: `sizes[i]` items of class `names[i]`."""

    def make(sizes, names=None, **columns):
        names = names or [f"class {i:03d}" for i in range(len(sizes))]
        classes = np.repeat(names, sizes)
        return Items.build("fake", [f"{i}.png" for i in range(len(classes))], classes, **columns)

    return make
