"""Options of a run from every door: Python, YAML, command line. All options that there are, found from the code."""

import math
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from pullpush.cli import main
from pullpush.criterion import CrossBatchMemory
from pullpush.data.readers import PLACES
from pullpush.errors import UserError
from pullpush.maths.similarity import SIMILARITIES
from pullpush.runs import config as config_module
from pullpush.runs.checked import Checked
from pullpush.runs.config import Config, Similarity
from pullpush.runs.groups import MemoryConfig
from pullpush.runs.options import config_from, losses, miners, options_of, parse
from pullpush.signatures import of
from pullpush.training import train

ODD: list[Any] = [-1, 0, 1e18, math.nan, math.inf, "many", [1, "a"], {"a": {"b": 1}}]
LOSSES = ["--loss=multi_similarity", "--miner=none"]
CHOICES = (
    [("loss", name) for name in losses()] + [("miner", name) for name in miners()] + [("data", name) for name in PLACES]
)
# Text takes any text, and a list of names any list; what it names is looked for later.
TEXTS = {
    "rerank",
    "data.source",
    "data.root",
    "encoder.name",
    "encoder.weights",
    "text.name",
    "out",
    "loss.name",
    "miner.name",
}
LISTS = {"trackers", "data.vendors", "data.held_out", "views.query", "views.gallery"}
# What 0 means, and sense that the largest or a negative number makes.
ZERO = {
    "memory.tolerance",
    "average.ema",
    "data.test",
    "data.validation",
    "data.folds",
    "data.fold",
    "data.long_tail",
    "data.workers",
    "encoder.dropout",
    "encoder.size",
    "encoder.frozen_stages",
    "lora.dropout",
    "lora.lr_scale",
    "text.dropout",
    "text.lr_scale",
    "batch.classes",
    "batch.samples",
    "optimizer.lr",
    "optimizer.backbone_scale",
    "optimizer.criterion_scale",
    "optimizer.weight_decay",
    "optimizer.warmup",
    "optimizer.clip",
    "seed",
    "gradient_cache",
    "minutes",
    "validate_every",
    "memory.size",
    "memory.weight",
    "memory.start_step",
}


def refusal(make: Any) -> str:
    """What is said against it, or nothing; anything but a `UserError` is an error of the test."""
    try:
        make()
    except UserError as error:
        return str(error)
    return ""


def doors(name: str, value: Any, tmp_path: Path) -> dict[str, Any]:
    """The same value through each of them."""
    text = yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()
    words = [f"--{name}={text}"]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({name: value}))
    return {
        "Python": lambda: config_from({name: value}),
        "YAML": lambda: parse(["--config", str(file)]),
        "command line": lambda: parse(words),
    }


def plain_options() -> list[str]:
    return [name for name in options_of("multi_similarity", "multi_similarity", "emoji") if name != "config"]


@pytest.mark.parametrize("name", plain_options())
def test_every_option_from_every_door(name: str, tmp_path: Path) -> None:
    for value in ODD:
        said = {door: refusal(make) for door, make in doors(name, value, tmp_path).items()}
        for door, message in said.items():
            if message:
                assert name.split(".")[0] in message or name.split(".")[-1] in message, (door, value, message)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(value, (dict, list)) and name not in LISTS:
            assert said["Python"], (name, value)
            assert said["YAML"], (name, value)
        if number and name not in TEXTS | LISTS | {"data.language"}:
            refused = bool(said["Python"])
            assert refused == bool(said["YAML"]) == bool(said["command line"]) or value == 0, (name, value, said)
            if value != 0:
                assert refused == (name != "loss.base" or value != -1), (name, value, said)
            elif not name.startswith(("loss.", "miner.")):
                assert refused != (name in ZERO), (name, value, said)


@pytest.mark.parametrize(("kind", "choice"), CHOICES)
def test_options_of_every_loss_miner_and_reader_from_the_command_line(kind: str, choice: str) -> None:
    given = {"loss": "multi_similarity", "miner": "none", "data": "emoji", kind: choice}
    options = options_of(given["loss"], given["miner"], given["data"])
    for name, option in options.items():
        if name.split(".")[0] != kind or name in TEXTS or str in (option.annotation, *get_args(option.annotation)):
            continue
        for value in ("nan", "inf", "-inf", "many", "1e400"):
            words = [f"--{kind}={choice}", f"--{name}", value]
            assert f"--{name} must be" in refusal(lambda words=words: parse(words)), (name, value)
        for value in ("-1", "0", "1e18"):
            words = [f"--{kind}={choice}", f"--{name}", value]
            message = refusal(lambda words=words: parse(words))
            assert not message or f"--{name} must be" in message, message


def test_dataclasses_are_checked_as_they_are_made_and_again_by_train(tmp_path: Path) -> None:
    made = [cls for cls in vars(config_module).values() if is_dataclass(cls) and issubclass(cls, Checked)]
    assert len(made) >= 6
    for cls in made:
        for field in fields(cls):
            with pytest.raises(UserError, match=f"{field.name}.* must be"):
                cls(**{field.name: object()})
    config = Config()
    config.steps = -5
    with pytest.raises(UserError, match="steps must be a whole number from 1"):
        train(config)
    with pytest.raises(UserError, match="config must be Config"):
        train({"steps": 3})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="set steps in it"):
        train(Config(), steps=3)


def test_a_config_trains_and_stays_as_it_is(small: dict[str, Any], tmp_path: Path) -> None:
    assert config_from(Config().values()) == parse([])
    whole = config_from({**small, "steps": 1, "out": str(tmp_path / "run")})
    config = replace(whole, loss={"name": "triplet"}, miner=None, memory={"size": 0})
    before = config.values()
    folder = train(config, quiet=True)
    assert (folder / "metrics.json").exists()
    assert config.values() == before
    assert yaml.safe_load((folder / "config.yaml").read_text())["loss"]["margin"] == 0.2
    with pytest.raises(UserError, match="exists"):
        train(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": "many"}, "steps must be a whole number"),
        ({"batch": {"classes": "x"}}, r"batch\.classes must be a whole number"),
        ({"encoder": {"head": "banana"}}, r"encoder\.head must be .*'linear', 'mlp', 'none', not 'banana'"),
        ({"loss": {"name": "circle", "margin": "a"}}, r"loss\.margin must be a number from 0 to 2, not 'a'"),
        ({"loss": {"name": "arcface", "margin": 28.6}}, "radians.*28.6 degrees is 0.5"),
        ({"batch": {"clases": 3}}, r"unknown option batch\.clases: did you mean batch\.classes\?"),
        ({"batch": [1, 2]}, r"batch has options of its own: batch\.classes"),
        ({"data": [1, 2]}, r"data\.source must be text"),
        ({"loss": 5}, r"loss\.name must be text"),
        ({"steps": {"a": {"b": {"c": {"d": 1}}}}}, "nested deeper"),
        ({"steps": {"a": 1}}, "unknown option"),
        ({"learn": "margin", "loss": "nt_xent"}, "learn must be one of 'auto', 'none', 'temperature'"),
        ({"data": {"options": {"skin_tones": "maybe"}}}, r"data\.skin_tones must be true or false"),
        ({"precision": 16}, "precision must be one of 'auto', '32', 'bf16'"),
    ],
)
def test_values_from_python_and_yaml_are_checked(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        config_from(values)
    with pytest.raises(UserError, match=message):
        train(**values)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=message):
        parse(["--config", str(tmp_path / "config.yaml")])


def test_yaml_reads_as_people_write_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "optimizer: {lr: 1e-4}\nprecision: 32\ndata: {cache: yes}\nsteps: 1e3\nloss: {name: circle, margin: 1}\n"
    )
    config = parse(["--config", str(file), "--report=false"])
    assert config.optimizer.lr == 1e-4
    assert (config.precision, config.data.cache, config.steps, config.report) == ("32", "yes", 1000, False)
    assert config.loss.options["margin"] == 1.0
    assert config_from(config.values()) == config


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("steps", "1e3", 1000),
        ("optimizer.lr", "1_0", 10.0),
        ("report", "off", False),
        ("trackers", "csv, wandb", ["csv", "wandb"]),
        ("trackers", "[csv]", ["csv"]),
        ("matryoshka", "64,32", [64, 32]),
        ("matryoshka", "[64, 32]", [64, 32]),
        ("out", "none", None),
        ("out", "7", "7"),
        ("similarity", "none", None),
        ("encoder.head", "none", "none"),
    ],
)
def test_a_text_means_the_same_from_every_door(name: str, text: str, wanted: Any, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({name: text}))
    group, _, last = name.rpartition(".")
    made = [parse([f"--{name}={text}"]), parse(["--config", str(tmp_path / "config.yaml")]), config_from({name: text})]
    for config in [*made, Config(**({group: {last: text}} if group else {name: text}))]:
        value = getattr(getattr(config, group) if group else config, last)
        assert (list(value) if isinstance(wanted, list) else value) == wanted


@pytest.mark.parametrize(
    "text", ["steps: .nan", "steps: [", "- 1", "5: 3", "a: " + "[" * 3000, "data: {a: {b: {c: {d: {}}}}}"]
)
def test_files_that_are_no_configuration(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(text)
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", "--config", str(tmp_path / "config.yaml"), *out]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_similarities_are_those_that_there_are() -> None:
    assert set(get_args(Similarity)) == set(SIMILARITIES)


def test_every_form_of_a_memory_is_one(tmp_path: Path) -> None:
    wanted = MemoryConfig(size=0.5, combine="sum")
    mapping = {"size": 0.5, "combine": "sum"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"memory": mapping}))
    configs = [
        Config(memory=wanted),
        Config(memory=mapping),  # type: ignore[arg-type]
        config_from({"memory": mapping}),
        config_from({"memory": wanted}),
        config_from({"memory.size": 0.5, "memory.combine": "sum"}),
        parse(["--memory", "0.5", "--memory.combine", "sum"]),
        parse(["--config", str(tmp_path / "config.yaml")]),
        config_from(Config(memory=wanted).values()),
    ]
    assert all(config.memory == wanted for config in configs)
    assert Config(memory=64).memory == config_from({"memory": 64}).memory == MemoryConfig(64)  # type: ignore[arg-type]
    assert not Config().memory.size


def test_other_groups_come_as_a_mapping_too() -> None:
    config = Config(data="photos", batch={"classes": 8})  # type: ignore[arg-type]
    assert (config.data.source, config.batch.classes) == ("photos", 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(memory={"sise": 4}), r"unknown option memory\.sise: did you mean memory\.size\?"),  # type: ignore[arg-type]
        (lambda: Config(memory={"layout": "qeue"}), "layout of MemoryConfig .*did you mean 'queue'"),  # type: ignore[arg-type]
        (lambda: MemoryConfig(size=-1), "size of MemoryConfig must be a number from 0"),
        (lambda: config_from({"memory": {"sise": 4}}), r"unknown option memory\.sise: did you mean memory\.size\?"),
        (lambda: Config(memory="many"), "size of MemoryConfig must be a number"),  # type: ignore[arg-type]
        (lambda: Config(batch=[1, 2]), "batch of Config must be BatchConfig"),  # type: ignore[arg-type]
    ],
)
def test_what_a_memory_does_not_take(make: Any, message: str) -> None:
    assert re.search(message, refusal(make))


def test_the_memory_of_a_run_has_the_options_of_the_memory() -> None:
    own, options = of(MemoryConfig).options, of(CrossBatchMemory).options
    assert list(own)[2:] == [name for name in options if name not in ("size", "dim", "items", "label_shape")]
    for name in list(own)[2:]:
        assert own[name][:2] == options[name][:2]


def test_another_loss_than_the_files_has_none_of_its_options(tmp_path: Path) -> None:
    files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    files[0].write_text("loss: {name: circle, margin: 0.1}\nminer: {name: hardest}\n")
    files[1].write_text("loss: triplet\n")
    words = [f"--config={files[0]}"]
    assert parse([*words, "--loss", "circle"]).loss.options["margin"] == 0.1
    assert parse([*words, "--loss", "triplet"]).loss == parse(["--loss", "triplet"]).loss
    assert parse([*words, f"--config={files[1]}"]).loss == parse(["--loss", "triplet"]).loss
    assert parse([*words, "--miner", "none"]).miner is None
    assert refusal(lambda: parse(["--loss"])).startswith("--loss.name must be text")
