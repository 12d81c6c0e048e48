"""The border of images that decides: what is measured, and the finding of runs with the fault and without."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pullpush.data.items import Items
from pullpush.data.sources import open_items
from pullpush.data.splits import split_by_class
from pullpush.data.synthetic import make_tree
from pullpush.doctor.declaration import Finding
from pullpush.encoders import ImageEncoder, View, Views, load, save
from pullpush.evaluation import evaluate_items
from pullpush.evaluation.border import BATCH, MARGIN, border_recall, exchanged
from pullpush.images.preprocessing import resize_and_center
from pullpush.reports import diagnose_run
from pullpush.runs.reader import RunFolder
from pullpush.training import train
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


def test_what_is_exchanged_is_half_of_the_area() -> None:
    middle, border = torch.ones(2, 3, 64, 64), torch.zeros(2, 3, 64, 64)
    mixed = exchanged(middle, border)
    assert mixed.mean() == pytest.approx(0.5, abs=0.04)
    assert (mixed[..., 32, 32] == 1).all()
    assert (mixed[..., 0, :] == 0).all()
    torch.testing.assert_close(mixed + exchanged(border, middle), middle)


@pytest.mark.parametrize("views", [Views(), Views((View(1.25),), (View(), View(flip=True)))])
def test_what_is_found_equals_a_loop(run: Path, views: Views) -> None:
    items, model = RunFolder(run).split("test"), load(run)
    model.views = views
    found = border_recall(model, items)
    assert found is not None
    assert found.queries > BATCH
    labels, rng = items.table["label"].to_numpy(), np.random.default_rng(0)
    rows = [row for name in rng.permutation(np.unique(labels)) for row in np.flatnonzero(labels == name)]
    rows = rows[: found.queries]
    labels = labels[rows]
    others = [int(rng.choice(np.flatnonzero(labels != label))) for label in labels]
    images = [np.asarray(resize_and_center(items.open(row), model.side)) for row in rows]
    margin = round(model.side * MARGIN)
    mixed = []
    for image, other in zip(images, others, strict=True):
        pixels = images[other].copy()
        pixels[margin:-margin, margin:-margin] = image[margin:-margin, margin:-margin]
        mixed.append(pixels)
    gallery, whole, part = (
        model.embed(each, role=role).astype(np.float64)
        for each, role in ((images, "gallery"), (images, "query"), (mixed, "query"))
    )

    def nearest(query: np.ndarray, *without: int) -> int:
        scores = [-2.0 if at in without else float(query @ each) for at, each in enumerate(gallery)]
        return int(labels[int(np.argmax(scores))])

    own = range(len(rows))
    asked = [nearest(part[at], at, others[at]) for at in own]
    loop = (
        np.mean([nearest(whole[at], at) == labels[at] for at in own]),
        np.mean([asked[at] == labels[others[at]] for at in own]),
        np.mean([asked[at] == labels[at] for at in own]),
    )
    assert found[:3] == pytest.approx(loop, abs=1.5 / len(rows))


def test_images_with_the_object_in_the_middle_are_no_finding(run: Path) -> None:
    found = diagnose_run(run)
    assert "border_decides" not in [each.finding for each in found.findings]
    assert not any("border" in line for line in found.not_seen)


def test_a_frame_that_tells_the_classes_apart(run: Path, tmp_path: Path) -> None:
    found = {each.finding: each for each in diagnose_run(framed(run, tmp_path)).findings}["border_decides"]
    assert found.severity == "warning"
    assert found.evidence["border_recall"] > 2 * found.evidence["middle_recall"]


BOX = {"x_1": 12, "y_1": 12, "x_2": 68, "y_2": 68}


@pytest.fixture(scope="module")
def pale(tmp_path_factory: pytest.TempPathFactory) -> tuple[Items, Items]:
    """Emoji that are hardly seen, within a frame of the class's two colours; the same within frames of any colours."""
    folder, rng = tmp_path_factory.mktemp("pale"), np.random.default_rng(0)
    items = split_by_class(
        open_items(make_tree("folder", folder / "tree", classes=40)), seed=0, test=0.4, validation=0.2
    )
    colors, checks = rng.integers(0, 256, (40, 2, 3), dtype=np.uint8), (np.indices((80, 80)) // 8).sum(0) % 2
    paths: tuple[list[str], list[str]] = ([], [])
    for row, label in enumerate(items.table["label"]):
        image = np.asarray(items.open(row).resize((56, 56)), np.float64)
        for way, two in zip(paths, (colors[label], rng.integers(0, 256, (2, 3), dtype=np.uint8)), strict=True):
            pixels = two[checks]
            pixels[12:68, 12:68] = 255 - 0.03 * (255 - image)
            way.append(str(folder / f"{row}-{way is paths[0]}.png"))
            Image.fromarray(pixels).save(way[-1])
    own, any_ = (items.assign(path=way) for way in paths)
    return own, any_


def boxed(items: Items) -> Items:
    return items.assign(**{name: [at] * len(items) for name, at in BOX.items()})


def test_what_is_advised_takes_the_border_out_of_the_decision(pale: tuple[Items, Items], tmp_path: Path) -> None:
    """And more is found of unseen classes whose frames say nothing."""
    framed, others = pale
    options: dict[str, Any] = {
        "encoder": {"freeze": True, "size": 64, "dim": 32},
        "batch": {"classes": 8, "samples": 3},
        **{"steps": 20, "validate_every": 10, "tensorboard": False, "report": False, "nmi": False},
        **{"views": "none", "rerank": "none"},
    }

    def trained(items: Items, others: Items, name: str, **more: Any) -> tuple[Finding | None, float]:
        out = train(items=items, out=str(tmp_path / name), quiet=True, **options | more)
        found = {each.finding: each for each in diagnose_run(out).findings}
        test = others.split("test")
        queries, gallery = load(out).embed_both([test.open(row) for row in range(len(test))])
        recall = evaluate_items(gallery, test, queries=queries, nmi=False).metrics["recall@1"]
        return found.get("border_decides"), recall

    sick, recall = trained(framed, others, "sick")
    assert sick is not None
    assert "x_1, y_1, x_2, y_2 of a manifest" in sick.advice
    cropped, more = trained(boxed(framed), boxed(others), "cropped")
    assert cropped is None
    assert more > recall + 0.2
    (view,) = re.findall(r'--views.query "(.+)"', sick.advice)
    middle, more = trained(framed, others, "middle", views={"query": [view]})
    assert middle is None
    assert more > recall


def test_what_cant_be_looked_at_is_no_finding(run: Path, tmp_path: Path) -> None:
    items = RunFolder(run).split("test")
    model = load(run)
    few = items.select(items.table["label"].isin(items.table["label"].unique()[:5]).to_numpy())
    assert border_recall(model, few) is None
    assert border_recall(model, items.assign(path=[f"nowhere/{n}.png" for n in range(len(items))])) is None
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "model" / "model.safetensors").unlink()
    assert any("What the border of the images decides" in line for line in diagnose_run(copy).not_seen)
