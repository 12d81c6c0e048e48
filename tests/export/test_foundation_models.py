"""The way of a foundation model through the whole house, each family tiny: trained and resumed, evaluated, exported,
indexed, searched."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pullpush import search
from pullpush.cli import main
from pullpush.data.synthetic import make_tree
from pullpush.encoders import load
from pullpush.errors import UserError
from pullpush.export import export
from pullpush.runs.checkpoint import LAST, load_checkpoint
from pullpush.training import train
from tests.support.tiny_models import TINY

FAMILIES, TUNES = ("clip", "siglip", "dinov2", "dinov3", "vit", "convnext"), ("head", "last-stages", "lora", "all")
ROOMLESS = ("siglip", "dinov3")
"""Their models of transformers have no place for a head."""
CHOSEN = dict(zip(FAMILIES, ("lora", "all", "head", "lora", "last-stages", "last-stages"), strict=True))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree("folder", tmp_path_factory.mktemp("photos") / "tree")


@pytest.mark.parametrize(("family", "tune"), CHOSEN.items())
def test_from_a_checkpoint_to_a_search(
    photos: Path, tmp_path: Path, family: str, tune: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _all_the_way(photos, tmp_path, family, tune, ("sentence-transformers", "hf"), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("tune", TUNES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_every_way(
    photos: Path, tmp_path: Path, family: str, tune: str, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = ("onnx", "openvino", "torch") if tune == "all" else ("torch",)  # what was tuned does not change the graph
    _all_the_way(photos, tmp_path, family, tune, ("sentence-transformers", "hf", *graphs), capsys)


def _all_the_way(
    photos: Path, root: Path, family: str, tune: str, formats: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {
        "data": {"source": str(photos), "test": 0.25, "validation": 0.25},
        "encoder": {"name": f"hf:{TINY[family](root / 'tiny')}", "size": 32, "dim": 16, "tune": tune},
        "batch": {"classes": 2, "samples": 2},
        **{"steps": 2, "validate_every": 2, "checkpoint_every": 1, "nmi": False, "views": "none", "rerank": "none"},
        **dict.fromkeys(("tensorboard", "report", "table"), False),
    }
    run = _resumed(options, root)
    capsys.readouterr()
    assert main(["evaluate", str(run), "--nmi", "false", "--json"]) == 0
    said, tested = json.loads(capsys.readouterr().out), json.loads((run / "metrics.json").read_text())["test"]["after"]
    assert said["recall@1"] == pytest.approx(tested["recall@1"])
    for to in formats:
        if to == "hf" and family in ROOMLESS:
            with pytest.raises(UserError, match="export it --to sentence-transformers, onnx, openvino or torch"):
                export(run, to, root / to)
        else:
            check = export(run, to, root / to).check
            assert check.images == "test"
            assert check.cosine["image"] > 0.9999
    search.build_index(run, photos, root / "index", projection="pca")
    engine = search.open(root / "index")
    image = next(photos.rglob("*.png"), None) or next(photos.rglob("*.jpg"))
    assert engine.query(image=str(image), k=3)[0].score == pytest.approx(1, abs=1e-3)


def _resumed(options: dict[str, Any], root: Path) -> Path:
    """The run, stopped after its first step and resumed, equal to the bit to one that was not."""

    class Enough(Exception):
        pass

    def stop(run: Any, step: int) -> None:
        if step == 1:
            raise Enough

    whole = train(**options, out=str(root / "whole"), quiet=True)
    with pytest.raises(Enough):
        train(**options, out=str(root / "run"), callbacks=(stop,), quiet=True)
    run = Path(train(resume=root / "run"))
    one, other = (load_checkpoint(each / LAST)["module"] for each in (whole, run))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert load(run).fingerprint == load(whole).fingerprint
    assert np.isfinite(np.load(run / "embeddings" / "test-after.npy")).all()
    return run
