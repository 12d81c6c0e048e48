"""What the tests of the doctor share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from pullpush.criterion import Criterion
from pullpush.data.synthetic import make_tree
from tests.support.bedside import Bedside, Options, batches, digits, mlp, seeded


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight classes of four images each."""
    return make_tree("folder", tmp_path_factory.mktemp("photos") / "tree")


@pytest.fixture(scope="session")
def small(photos: Path) -> Options:
    """Options of a run of seconds."""
    return {
        "data": {"source": str(photos), "test": 0.25, "validation": 0.25},
        "encoder": {"weights": "none", "size": 32, "dim": 16},
        "batch": {"classes": 3, "samples": 3},
        "steps": 12,
        "validate_every": 4,
        "tensorboard": False,
        "report": False,
        "views": "none",
        "rerank": "none",
        "table": False,
        "nmi": False,
    }


@pytest.fixture
def watched(tmp_path: Path) -> Callable[..., Bedside]:
    """Trains an encoder on digits and gives what the monitor found."""

    def train(
        criterion: Criterion,
        encoder: nn.Module | None = None,
        *,
        classes: Sequence[int] = range(10),
        each: int = 4,
        steps: int = 40,
        **config: Any,
    ) -> Bedside:
        encoder = encoder or seeded(mlp)
        x, labels, ids = digits(classes)
        bedside = Bedside(tmp_path, criterion, encoder, steps, **config)
        drawn = batches(labels, each)
        for _ in range(steps):
            rows = next(drawn)
            bedside.step(criterion(encoder(x[rows]), labels[rows], ids[rows]))
        return bedside

    return train
