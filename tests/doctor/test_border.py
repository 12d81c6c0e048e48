"""The border of images that decides: what is measured, and the finding of runs with the fault and without."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pullpush.data.items import Items
from pullpush.encoders import ImageEncoder, save
from pullpush.evaluation.border import BATCH, border_recall, middle_only, outer_only
from pullpush.reports import diagnose_run
from pullpush.runs.reader import RunFolder
from tests.reports.conftest import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured shapes on white, and a pretrained model."""
    folder = make_run(tmp_path_factory.mktemp("border") / "run")
    save(folder / "model", ImageEncoder("tf_efficientnet_lite0", head="none", size=64))
    return folder


def framed(run: Path, folder: Path) -> Path:
    """The same run, its images with a frame of the class's colours around a plain middle, of any light colour."""
    copy = Path(shutil.copytree(run, folder / "run"))
    items = Items.load(copy / "items.parquet")
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (len(items.classes), 2, 3), dtype=np.uint8)
    paths = []
    for row, label in enumerate(items.table["label"]):
        pixels = np.repeat(np.repeat(np.tile(colors[label], (8, 4, 1)), 8, 0), 8, 1)
        pixels[9:-9, 9:-9] = rng.integers(180, 256, 3)
        paths.append(str(folder / f"{row}.png"))
        Image.fromarray(pixels[:64, :64]).save(paths[-1])
    items.assign(path=paths).save(copy / "items.parquet")
    return copy


def test_the_two_parts_are_halves_and_make_the_whole() -> None:
    x = torch.rand(2, 3, 64, 64) + 0.1
    outer, middle = outer_only(x), middle_only(x)
    torch.testing.assert_close(outer + middle, x)
    assert (outer * middle == 0).all()
    assert (middle > 0).float().mean() == pytest.approx(0.5, abs=0.04)


def test_what_the_middle_finds_equals_a_loop(run: Path) -> None:
    items = RunFolder(run).split("test")
    encoder = ImageEncoder("tf_efficientnet_lite0", head="none", size=32).eval()
    found = border_recall(encoder, items)
    assert found is not None
    assert found.queries > BATCH
    labels = items.table["label"].to_numpy()
    rows = [
        r for name in np.random.default_rng(0).permutation(np.unique(labels)) for r in np.flatnonzero(labels == name)
    ]
    rows = rows[: found.queries]  # all classes have two items or more, so every item is a query
    with torch.no_grad():
        given = encoder.prepare([items.open(row) for row in rows])
        whole, middle = encoder(given).double(), encoder(middle_only(given)).double()
    hits = 0
    for number, query in enumerate(middle):
        scores = [float(query @ other) if at != number else -2.0 for at, other in enumerate(whole)]
        hits += bool(labels[rows[int(np.argmax(scores))]] == labels[rows[number]])
    assert found.middle == pytest.approx(hits / len(rows), abs=1.5 / len(rows))


def test_images_with_the_object_in_the_middle_are_no_finding(run: Path) -> None:
    found = diagnose_run(run)
    assert "border_decides" not in [each.finding for each in found.findings]
    assert not any("border" in line for line in found.not_seen)


def test_a_frame_that_tells_the_classes_apart(run: Path, tmp_path: Path) -> None:
    found = {each.finding: each for each in diagnose_run(framed(run, tmp_path)).findings}["border_decides"]
    assert found.severity == "warning"
    assert found.evidence["border_recall"] > 2 * found.evidence["middle_recall"]
    assert "Crop the images" in found.advice


def test_what_cant_be_looked_at_is_no_finding(run: Path, tmp_path: Path) -> None:
    items = RunFolder(run).split("test")
    encoder = ImageEncoder("tf_efficientnet_lite0", head="none", size=32)
    few = items.select(items.table["label"].isin(items.table["label"].unique()[:5]).to_numpy())
    assert border_recall(encoder, few) is None
    assert border_recall(encoder, items.assign(path=[f"nowhere/{n}.png" for n in range(len(items))])) is None
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "model" / "model.safetensors").unlink()
    assert any("What the border of the images decides" in line for line in diagnose_run(copy).not_seen)
