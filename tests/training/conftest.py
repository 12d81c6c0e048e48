"""A run small enough for tests: real images, a real backbone without its weights."""

from pathlib import Path
from typing import Any

import pytest

from pullpush.data.synthetic import make_tree
from tests.support.texts import small_text_model


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight classes of four images each."""
    return make_tree("folder", tmp_path_factory.mktemp("photos") / "tree")


@pytest.fixture(scope="session")
def small(photos: Path) -> dict[str, Any]:
    """Options of a run of seconds."""
    return {
        "data": {"source": str(photos), "test": 0.25, "validation": 0.25},
        "encoder": {"name": "test_efficientnet", "weights": "none", "size": 32, "dim": 16},
        "batch": {"classes": 3, "samples": 3},
        "optimizer": {"lr": 1e-3},
        "steps": 12,
        "validate_every": 4,
        "checkpoint_every": 3,
        "tensorboard": False,
        "report": False,
        "views": "none",
        "rerank": "none",
        "table": False,
    }


@pytest.fixture(scope="session")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A text model that loads in no time."""
    return small_text_model(tmp_path_factory.mktemp("text") / "model")
