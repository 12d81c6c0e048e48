"""Runs on models of transformers: some steps with each, resumed to the bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pullpush
from pullpush.encoders.backbones.sentence_transformers import no_progress_bars
from pullpush.runs.checkpoint import BEST, LAST, START, load_checkpoint
from pullpush.training import train
from tests.support.tiny_models import TINY

Options = dict[str, Any]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The name of a tiny model, written once."""
    root = tmp_path_factory.mktemp("hf")

    def name(kind: str) -> str:
        with no_progress_bars():
            return f"hf:{root / kind if (root / kind).exists() else TINY[kind](root / kind)}"

    return name


def options_of(small: Options, name: str, **encoder: Any) -> Options:
    own = {"name": name, "size": 32, "dim": 16, "last_stages": 1, **encoder}
    return {**small, "encoder": own, "steps": 2, "validate_every": 2, "checkpoint_every": 1, "nmi": False}


@pytest.mark.parametrize(
    ("kind", "tune"),
    [
        ("clip", "all"),
        ("siglip", "last-stages"),
        ("dinov2", "head"),
        ("dinov3_convnext", "all"),
        ("vit", "all"),
        ("convnext", "last-stages"),
    ],
)
def test_every_family_trains(small: Options, tiny: Callable[[str], str], kind: str, tune: str, tmp_path: Path) -> None:
    run = train(**options_of(small, tiny(kind), tune=tune), out=str(tmp_path / "run"))
    start, last = (load_checkpoint(run / name)["module"] for name in (START, LAST))
    changed = {name for name in last if not torch.equal(last[name], start[name])}
    assert any("head" in name for name in changed)
    assert any("backbone" in name for name in changed) == (tune != "head")
    test = pullpush.Items.load(run / "items.parquet").split("test")
    embeddings = pullpush.load(run).embed([test.path(row) for row in range(len(test))])
    np.testing.assert_allclose(embeddings, np.load(run / "embeddings" / "test-after.npy"), atol=1e-5)


def test_resumed_ends_the_same(small: Options, tiny: Callable[[str], str], tmp_path: Path) -> None:
    """Of DINOv3, which in training draws the scale of its positions."""
    options = options_of(small, tiny("dinov3"), tune="all")
    whole = train(**options, out=str(tmp_path / "whole"))

    class Enough(Exception):
        pass

    def stop(run: Any, step: int) -> None:
        if step == 2:
            raise Enough

    with pytest.raises(Enough):
        train(**options, out=str(tmp_path / "cut"), callbacks=(stop,))
    train(resume=tmp_path / "cut")
    for name in (LAST, BEST):
        one, other = (load_checkpoint(run / name)["module"] for run in (whole, tmp_path / "cut"))
        assert all(torch.equal(one[each], other[each]) for each in one)
    assert pullpush.load(whole).fingerprint == pullpush.load(tmp_path / "cut").fingerprint
