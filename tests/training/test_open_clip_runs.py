"""Runs on joint models of open_clip, of images and of images with texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pullpush
from pullpush.runs.checkpoint import LAST, START, load_checkpoint
from pullpush.training import train
from tests.support.tiny_open_clip import tiny_open_clip

Options = dict[str, Any]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The name of a tiny model, written once."""
    root = tmp_path_factory.mktemp("open_clip")
    return lambda kind: f"open_clip:{root / kind if (root / kind).exists() else tiny_open_clip(root / kind, kind)}"


def short(small: Options, **encoder: Any) -> Options:
    own = {"dim": 16, "last_stages": 1, **encoder}
    return {**small, "encoder": own, "steps": 2, "validate_every": 2, "checkpoint_every": 1, "nmi": False}


def check(run: Path, *learned: str) -> None:
    """What has learned, and that the model embeds the test as the run did."""
    start, last = (load_checkpoint(run / name)["module"] for name in (START, LAST))
    changed = {name for name in last if not torch.equal(last[name], start[name])}
    assert {part for part in ("visual", "tower", "head") if any(f"{part}." in name for name in changed)} == {*learned}
    test = pullpush.Items.load(run / "items.parquet").split("test")
    model = pullpush.load(run)
    embeddings = model.embed([test.path(row) for row in range(len(test))])
    np.testing.assert_allclose(embeddings, np.load(run / "embeddings" / "test-after.npy"), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "tune", "learned"),
    [("vit", "all", ("visual", "head")), ("siglip", "last-stages", ("visual", "head")), ("quick", "head", ("head",))],
)
def test_images(
    small: Options, tiny: Callable[[str], str], kind: str, tune: str, learned: tuple[str, ...], tmp_path: Path
) -> None:
    run = train(**short(small, name=tiny(kind), tune=tune), out=str(tmp_path / "run"))
    check(run, *learned)
    assert pullpush.load(run).preprocessing.size == (160 if kind == "siglip" else 32)


@pytest.mark.parametrize("freeze", [True, False])
def test_images_and_texts(small: Options, tiny: Callable[[str], str], freeze: bool, tmp_path: Path) -> None:
    """By one name for both towers; the bundle needs neither of them."""
    options = short(small, name=tiny("vit"), tune="head" if freeze else "all", augment=False)
    text = {"name": tiny("vit"), "freeze": freeze}
    data = {**small["data"], "source": str(with_texts(Path(small["data"]["source"]), tmp_path / "photos"))}
    run = train(**{**options, "task": "image-text", "text": text, "data": data}, out=str(tmp_path / "run"))
    check(run, *(("head",) if freeze else ("visual", "tower", "head")))
    model = pullpush.load(run)
    texts = model.embed_text(["a photo of 3", "nothing"])
    assert texts.shape == (2, 16)
    assert (texts[0] * texts[1]).sum() < 1 - 1e-6


def with_texts(photos: Path, folder: Path) -> Path:
    """The photos, each with a text beside it."""
    for photo in sorted(each for each in photos.rglob("*") if each.suffix in (".png", ".jpg")):
        copy = folder / photo.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(photo.read_bytes())
        copy.with_suffix(".txt").write_text(f"a photo of {copy.parent.name}")
    return folder
