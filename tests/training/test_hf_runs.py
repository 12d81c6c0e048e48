"""Runs on models of transformers: some steps with each, resumed to the bit."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pullpush
from pullpush.encoders.backbones import joint
from pullpush.encoders.backbones.sentence_transformers import no_progress_bars
from pullpush.evaluation import evaluate_image_text, evaluate_items
from pullpush.runs.checkpoint import BEST, LAST, START, load_checkpoint
from pullpush.runs.folder import open_run
from pullpush.runs.options import config_from, parse
from pullpush.runs.reader import RunFolder
from pullpush.training import train
from pullpush.training.items import make_items
from pullpush.training.task import Task
from tests.support.tiny_models import TINY
from tests.support.tiny_open_clip import tiny_open_clip

Options = dict[str, Any]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The name of a tiny model, written once."""
    root = tmp_path_factory.mktemp("hf")

    def name(kind: str) -> str:
        if kind == "open_clip":
            return f"open_clip:{root / kind if (root / kind).exists() else tiny_open_clip(root / kind)}"
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


def cut_and_resumed(options: Options, folder: Path) -> None:
    """A run that fails after its second step, and goes on."""

    class Enough(Exception):
        pass

    def stop(run: Any, step: int) -> None:
        if step == 2:
            raise Enough

    with pytest.raises(Enough):
        train(**options, out=str(folder), callbacks=(stop,))
    train(resume=folder)


def test_resumed_ends_the_same(small: Options, tiny: Callable[[str], str], tmp_path: Path) -> None:
    """Of DINOv3, which in training draws the scale of its positions."""
    options = options_of(small, tiny("dinov3"), tune="all")
    whole = train(**options, out=str(tmp_path / "whole"))

    cut_and_resumed(options, tmp_path / "cut")
    for name in (LAST, BEST):
        one, other = (load_checkpoint(run / name)["module"] for run in (whole, tmp_path / "cut"))
        assert all(torch.equal(one[each], other[each]) for each in one)
    assert pullpush.load(whole).fingerprint == pullpush.load(tmp_path / "cut").fingerprint


@pytest.fixture(scope="module")
def described(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A manifest of the eight classes, whose texts are their names."""
    items = pullpush.open_items(photos)
    names = [items.classes[label] for label in items.table["label"]]
    manifest = tmp_path_factory.mktemp("described") / "items.csv"
    pd.DataFrame({"path": items.table["path"], "label": names, "text": names}).to_csv(manifest, index=False)
    return str(manifest)


@pytest.fixture(scope="module")
def pairs(small: Options, described: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Options]:
    """Options of a run with texts; features are computed once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULLPUSH_CACHE", str(tmp_path_factory.mktemp("cache")))
        own = {"task": "image-text", "batch": {"classes": 4, "samples": 2}, "steps": 2, "checkpoint_every": 1}
        data = {**small["data"], "source": described}
        yield {**small, **own, "data": data, "encoder": {}, "validate_every": 2}


def without_training(name: str, run: Path) -> tuple[dict[str, float], Any]:
    """What the model finds on the test of a run as it is, and the model."""
    model, folder = pullpush.load(name), RunFolder(run)
    test, texts = pullpush.Items.load(run / "items.parquet").split("test"), folder.texts("test")
    images = model.embed([test.path(row) for row in range(len(test))])
    words = model.embed_text(list(texts["text"]))
    found = evaluate_image_text(images, test.labels, words, texts["label"].to_numpy())
    return found.with_images(evaluate_items(torch.from_numpy(images), test, nmi=False)).metrics, model


@pytest.mark.parametrize("kind", ["clip", "siglip", "open_clip"])
def test_a_run_with_both_towers_starts_where_the_model_is_without_training(
    pairs: Options, tiny: Callable[[str], str], kind: str, tmp_path: Path
) -> None:
    """One name is enough: both towers, the heads, their width and the temperature follow from it."""
    name = tiny(kind)
    run = train(**{**pairs, "encoder": {"name": name}}, out=str(tmp_path / "run"))
    config = open_run(run)
    width, temperature = {"clip": (24, 0.02), "siglip": (32, 0.05), "open_clip": (joint(name) or (0, 0))[:2]}[kind]
    assert (config.text.name, config.encoder.dim) == (name, width)
    assert (config.encoder.head, config.text.head) == ("linear", "linear")
    assert config.loss.options["temperature"] == pytest.approx(temperature)
    start = load_checkpoint(run / START)["module"]
    assert start["criterion.learned.log_temperature"].exp() == pytest.approx(temperature)
    found, model = without_training(name, run)
    before = json.loads((run / "metrics.json").read_text())["test"]["before"]
    assert found == pytest.approx({each: before[each] for each in found})
    test = pullpush.Items.load(run / "items.parquet").split("test")
    images = [test.path(row) for row in range(len(test))]
    np.testing.assert_allclose(np.load(run / "embeddings/test-before.npy"), model.embed(images), atol=1e-6)
    trained = pullpush.load(run)
    assert trained.temperature == pytest.approx(temperature)
    np.testing.assert_allclose(trained.embed(images), np.load(run / "embeddings/test-after.npy"), atol=1e-5)


def test_both_towers_are_trained_and_resumed_to_the_bit(
    pairs: Options, tiny: Callable[[str], str], tmp_path: Path
) -> None:
    options = {**pairs, "encoder": {"name": tiny("clip"), "tune": "all"}, "text": {"tune": "all"}}
    whole = train(**options, out=str(tmp_path / "whole"))

    cut_and_resumed(options, tmp_path / "cut")
    one, other = (load_checkpoint(run / LAST)["module"] for run in (whole, tmp_path / "cut"))
    assert all(torch.equal(one[each], other[each]) for each in one)
    start = load_checkpoint(whole / START)["module"]
    changed = {each for each in one if not torch.equal(one[each], start[each])}
    for tower in ("image", "text"):
        assert any(tower in each and "backbone" in each for each in changed)


def test_a_sigmoid_loss_starts_at_the_scale_and_the_bias_of_the_checkpoint(tiny: Callable[[str], str]) -> None:
    name = tiny("siglip")
    loss = parse(["--task", "image-text", "--encoder", name, "--loss", "siglip"]).loss
    assert loss.options == {"log_scale": pytest.approx(np.log(20)), "bias": -7.0}
    said = parse(["--task", "image-text", "--encoder", name, "--loss", "siglip", "--loss.bias", "-3"]).loss
    assert said.options["bias"] == -3
    said = parse(["--task", "image-text", "--encoder", name, "--loss.temperature", "0.3"]).loss
    assert said.options["temperature"] == 0.3


def test_what_is_said_is_kept(tiny: Callable[[str], str]) -> None:
    name = tiny("clip")

    def towers(*argv: str) -> tuple[str, str, str, int]:
        config = parse(["--task", "image-text", "--encoder", name, *argv])
        return config.text.name, config.encoder.head, config.text.head, config.encoder.dim

    assert towers() == towers("--text.name", "auto") == towers("--text", name) == (name, "linear", "linear", 24)
    assert towers("--encoder.head", "none") == (name, "none", "none", 24)
    assert towers("--encoder.head", "mlp", "--encoder.dim", "8") == (name, "mlp", "linear", 8)
    assert towers("--text", "all-MiniLM-L6-v2") == ("all-MiniLM-L6-v2", "mlp", "mlp", 256)
    assert parse(["--task", "image-text"]).text.name == "all-MiniLM-L6-v2"
    assert parse(["--task", "image-text", "--encoder", tiny("vit")]).text.name == "all-MiniLM-L6-v2"
    assert parse(["--encoder", name]).encoder.dim == 128  # images alone


def test_options_of_a_run_are_read_without_its_model(tmp_path: Path, tiny: Callable[[str], str]) -> None:
    config = parse(["--task", "image-text", "--encoder", tiny("clip")])
    config.encoder.name = config.text.name = "hf:no/longer/there"
    assert config_from(config.values()) == config


def test_fewer_dimensions_keep_the_cosines_of_both_towers(
    pairs: Options, tiny: Callable[[str], str], tmp_path: Path
) -> None:
    """Both heads are the same projection, and of all the one that keeps cosines best."""
    options = {**pairs, "encoder": {"name": tiny("clip"), "dim": 12}, "steps": 1}
    config = config_from(options)
    task = Task(config, make_items(config.data, config.seed, lambda sentence: None))
    task.start()
    heads: list[Any] = [tower.encoder.head for tower in task.towers]
    assert torch.equal(heads[0].weight, heads[1].weight)
    torch.testing.assert_close(heads[0].weight @ heads[0].weight.T, torch.eye(12), atol=1e-5, rtol=0)
    images, words = (torch.nn.functional.normalize(tower.drawn_features()) for tower in task.towers)
    x = torch.cat([images, words])
    kept = heads[0](x)
    lost = (x @ x.T - kept @ kept.T).norm()
    drawn = torch.linalg.qr(torch.randn(24, 12, generator=torch.Generator().manual_seed(0)))[0]
    assert lost < (x @ x.T - (x @ drawn) @ (x @ drawn).T).norm()


def test_without_heads_the_towers_alone_are_trained(pairs: Options, tiny: Callable[[str], str], tmp_path: Path) -> None:
    own = {"name": tiny("clip"), "head": "none", "tune": "last-stages", "last_stages": 1}
    run = train(**{**pairs, "encoder": own}, out=str(tmp_path / "run"))
    start, last = (load_checkpoint(run / name)["module"] for name in (START, LAST))
    changed = {name for name in last if not torch.equal(last[name], start[name])}
    assert any("backbone" in name for name in changed)
    assert not any(".head." in name for name in last)
