"""Runs by what learns in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pullpush.encoders import load
from pullpush.errors import UserError
from pullpush.runs.checkpoint import BEST, START, load_checkpoint
from pullpush.runs.config import Config
from pullpush.runs.groups import EncoderConfig, TextConfig
from pullpush.runs.log import read_log
from pullpush.runs.options import config_from, parse
from pullpush.runs.reader import RunFolder
from pullpush.training import train
from pullpush.training.loop import make_items
from pullpush.training.task import Task
from pullpush.training.towers import image_encoder

Options = dict[str, Any]


def run(small: Options, out: Path, **options: Any) -> Path:
    own = {"steps": 4, "validate_every": 4, **options}
    return train(config_from({**small, **own, "out": str(out)}), quiet=True)


def losses(folder: Path) -> list[float]:
    return [line["train/loss"] for line in read_log(folder / "log.jsonl") if "train/loss" in line]


def test_tune_head_is_the_frozen_backbone(small: Options, tmp_path: Path) -> None:
    tuned = run(small, tmp_path / "tuned", tune="head")
    frozen = run(small, tmp_path / "frozen", **{"encoder": {**small["encoder"], "freeze": True}})
    assert losses(tuned) == losses(frozen)
    assert (tuned / "model/model.safetensors").read_bytes() == (frozen / "model/model.safetensors").read_bytes()


def test_of_last_stages_the_others_stay(small: Options, tmp_path: Path) -> None:
    options = {"encoder": {**small["encoder"], "tune": "last-stages", "last_stages": 1, "frozen_norm": True}}
    folder = run(small, tmp_path / "run", **options)
    start, best = (load_checkpoint(folder / name)["module"] for name in (START, BEST))
    changed = {name for name in best if not best[name].equal(start[name]) and "running" not in name}
    stage = "encode.backbone.blocks.4.", "encode.backbone.conv_head.", "encode.backbone.bn2."
    assert any(name.startswith(stage[0]) for name in changed)
    assert all(name.startswith((*stage, "encode.head.")) for name in changed if not name.endswith("batches_tracked"))


def test_auto_is_what_the_other_options_say() -> None:
    assert not EncoderConfig().frozen
    assert EncoderConfig(freeze=True).frozen
    assert EncoderConfig(tune="head").frozen
    assert TextConfig().frozen
    assert not TextConfig(freeze=False).frozen
    assert not TextConfig(tune="all").frozen


@pytest.mark.parametrize("group", ["encoder", "text"])
@pytest.mark.parametrize(("what", "freeze"), [("all", True), ("last-stages", True), ("head", False)])
def test_a_contradiction_is_told(group: str, what: str, freeze: bool) -> None:
    message = f"--{group}.tune {what} and --{group}.freeze {str(freeze).lower()} contradict each other"
    with pytest.raises(UserError, match=message):
        parse([f"--{group}.tune", what, f"--{group}.freeze", str(freeze).lower()])
    with pytest.raises(UserError, match=message):
        Config(**{group: {"tune": what, "freeze": freeze}})


def test_of_two_layers_the_later_says_what_learns(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config_from({"encoder.freeze": True}).values()))
    said = parse(["--config", str(file), "--tune", "all"]).encoder
    assert (said.tune, said.freeze) == ("all", None)
    file.write_text(yaml.safe_dump(config_from({"tune": "last-stages"}).values()))
    said = parse(["--config", str(file), "--encoder.freeze", "true"]).encoder
    assert (said.tune, said.freeze) == ("auto", True)


def test_with_texts_the_image_tower_is_frozen_unless_something_is_said() -> None:
    assert parse(["--task", "image-text"]).encoder.frozen
    assert not parse(["--task", "image-text", "--tune", "all"]).encoder.frozen
    assert not parse(["--task", "image-text", "--encoder.freeze", "false"]).encoder.frozen


def test_a_run_in_which_nothing_learns_is_refused(small: Options, tmp_path: Path) -> None:
    options = {"encoder": {**small["encoder"], "tune": "head", "head": "none", "size": 0}}
    with pytest.raises(UserError, match=r"nothing would learn.*pullpush evaluate timm:test_efficientnet"):
        run(small, tmp_path / "run", **options)


def test_a_model_of_an_adapter_is_a_run_s_like_any_other(small: Options, tmp_path: Path) -> None:
    base = tmp_path / "base.pth"
    torch.save(image_encoder(config_from(small), 32).backbone.state_dict(), base)
    encoder = {**small["encoder"], "tune": "lora", "weights": str(base)}
    folder = run(small, tmp_path / "run", encoder=encoder, lora={"keep": "adapter"}, gate=False)
    embedded = load(folder).embed(list(RunFolder(folder).items.split("test").table["path"]))
    np.testing.assert_allclose(embedded, np.load(folder / "embeddings/test-after.npy"), atol=1e-5)
    assert (folder / "model/image/adapter_model.safetensors").stat().st_size < base.stat().st_size / 4


def test_a_strange_word_is_told() -> None:
    with pytest.raises(UserError, match="last-stages"):
        parse(["--tune", "last"])


@pytest.fixture(scope="module")
def adapted(small: Options, tmp_path_factory: pytest.TempPathFactory) -> tuple[Options, Path]:
    """A run of adapters, with an average and a blend of them."""
    options = {"encoder": {**small["encoder"], "tune": "lora"}, "steps": 8, "gate": False}
    return options, run(small, tmp_path_factory.mktemp("adapted") / "run", **options)


def test_of_a_run_of_adapters_the_base_stays_and_the_model_is_whole(
    small: Options, adapted: tuple[Options, Path]
) -> None:
    _, folder = adapted
    start, best = (load_checkpoint(folder / name)["module"] for name in (START, BEST))
    weights = {name for name in best if name.startswith("encode.backbone.") and name.endswith(("weight", "bias"))}
    assert weights
    assert all(".lora_" in name for name in weights)
    assert any(not best[name].equal(start[name]) for name in weights)
    config = config_from(small | {"encoder": small["encoder"]})
    base = image_encoder(config, 32).backbone.state_dict()
    model = load(folder / "model").image
    assert model.backbone.state_dict().keys() == base.keys()
    groups = config_from(small | {"tune": "lora"})
    made = Task(groups, make_items(groups.data, groups.seed)).parameter_groups()
    rates = {group["name"]: pytest.approx(group["lr"] / groups.optimizer.lr) for group in made}
    assert rates == {"backbone/lora": 4.0, "head/weights": 1.0, "head/biases_and_norms": 1.0}
    after = np.load(folder / "embeddings/test-after.npy")
    rows = RunFolder(folder).items.split("test")
    embedded = model.from_features(model.features(model.prepare(list(rows.table["path"])))).detach().numpy()
    np.testing.assert_allclose(embedded, after, atol=1e-5)


def test_a_run_of_adapters_goes_on_to_the_bit(small: Options, adapted: tuple[Options, Path], tmp_path: Path) -> None:
    options, whole = adapted

    class Kill(Exception): ...

    def kill(_: Any, step: int) -> None:
        if step == 5:
            raise Kill

    out = tmp_path / "killed"
    with pytest.raises(Kill):
        train(config_from({**small, "validate_every": 4, **options, "out": str(out)}), quiet=True, callbacks=[kill])
    train(resume=out, quiet=True)
    assert losses(out) == losses(whole)
    assert (out / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()


def test_adapters_of_other_weights_are_told(small: Options, adapted: tuple[Options, Path]) -> None:
    options, folder = adapted
    config = config_from({**small, **options, "seed": 1})
    step = Task(config, make_items(config.data, 0)).step
    with pytest.raises(UserError, match="adapters of other weights"):
        step.load_state_dict(load_checkpoint(folder / BEST)["module"])


def test_options_of_the_towers_reach_the_encoder(small: Options) -> None:
    own = {"name": "test_vit", "tune": "last-stages", "gradient_checkpointing": True}
    config = config_from({**small, "encoder": {**small["encoder"], **own}, "optimizer": {"layer_decay": 0.5}})
    task = Task(config, make_items(config.data, config.seed))
    assert task.encoder.backbone.grad_checkpointing
    rates = {group["name"]: group["lr"] for group in task.parameter_groups()}
    assert rates["head/weights"] == rates["backbone/7/weights"] == 2 * rates["backbone/6/weights"]
    assert "backbone/5/weights" not in rates


@pytest.mark.parametrize("what", ["head", "lora", "all"])
def test_a_run_says_what_learns_and_what_it_takes(small: Options, what: str) -> None:
    config = config_from({**small, "tune": what})
    task = Task(config, make_items(config.data, config.seed))
    optimizer = torch.optim.AdamW(task.parameter_groups())
    task.step(*task.prepare(next(task.batches(0)), torch.device("cpu"))).backward()
    optimizer.step()
    moments = [v for state in optimizer.state.values() for k, v in state.items() if k.startswith("exp_avg")]
    weights = [*task.encoder.parameters()]
    learned = [p for group in optimizer.param_groups for p in group["params"]]
    held = [*weights, *(p.grad for p in learned), *moments]
    assert task.costs.bytes == sum(each.nbytes for each in held)
    assert task.costs.learned == sum(p.numel() for p in learned)
    assert str(task.costs) in task.notes


@pytest.mark.parametrize("pool", ["mean", "gem", "attention"])
def test_a_pooling_is_trained_on_cached_features_as_without_a_cache(small: Options, pool: str, tmp_path: Path) -> None:
    own = {**small["encoder"], "pool": pool, "tune": "head", "size": 64}
    folder = run(small, tmp_path / "run", encoder=own)
    model = load(folder / "model").image
    start, best = (load_checkpoint(folder / name)["module"] for name in (START, BEST))
    pools = {name for name in best if ".pool." in name}
    assert {name for name in pools if not best[name].equal(start[name])} == pools
    assert bool(pools) == (pool != "mean")
    after = np.load(folder / "embeddings/test-after.npy")
    rows = RunFolder(folder).items.split("test")
    with torch.no_grad():
        embedded = model(model.prepare(list(rows.table["path"]))).numpy()
    np.testing.assert_allclose(embedded, after, atol=1e-5)
