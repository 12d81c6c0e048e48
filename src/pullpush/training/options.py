"""Options of a run by name: from the command line, from YAML, from a mapping. One parser checks them all."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from importlib.resources import files
from inspect import signature
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from pullpush.criterion import memory
from pullpush.criterion.choices import GIVEN
from pullpush.data.sources import reader_of
from pullpush.errors import UserError
from pullpush.maths import losses, miners
from pullpush.training.config import TASK_DEFAULTS, Config, DataConfig

__all__ = ["SHORT", "chosen", "config_file", "config_from", "make_parser", "parse", "read_yaml", "task_defaults"]

RECIPES = Path(str(files("pullpush"))) / "recipes"
# What people type, and the option it stands for.
SHORT = {
    "data": "data.source",
    "root": "data.root",
    "on_bad_item": "data.on_bad_item",
    "encoder": "encoder.name",
    "text": "text.name",
    "loss": "loss.name",
    "miner": "miner.name",
    "memory": "memory.size",
}
# The miner that a loss's paper trains it with.
MINER_OF = {"multi_similarity": "multi_similarity"}
SKIPPED = {"similarity", "pairs", *GIVEN}


def config_from(values: Mapping[str, Any]) -> Config:
    """A checked Config of nested or dotted values, with their short forms.

        config_from({"data": "emoji", "loss": {"name": "circle", "margin": 0.4}, "steps": 200})

    Raises:
        UserError: an unknown option, or a value of the wrong type.
    """
    return _parse(_flatten(values), [])


def parse(argv: Sequence[str], defaults: Mapping[str, Any] | None = None) -> Config:
    """A checked Config of a command line; `--config FILE` gives values before it, and `defaults` values before these.

    Raises:
        UserError: an unknown option, a value of the wrong type, an unreadable file.
    """
    values, words = _sorted_out(argv)
    return _parse({**_flatten(defaults or {}), **values}, words)


def chosen(argv: Sequence[str]) -> tuple[str, str, str]:
    """The loss, the miner and the source of the data that a command line names: they bring options of their own."""
    values, words = _sorted_out(argv)
    return _chosen(_with_task(values, words), words)


def task_defaults(argv: Sequence[str]) -> dict[str, Any]:
    """What the task of a command line takes instead of the general defaults."""
    values, words = _sorted_out(argv)
    return {k: v for k, v in _with_task(values, words).items() if k not in values}


def config_file(name: str) -> Path:
    """The file that `--config` names: a path, or the name of a recipe that comes with pullpush (`sop-xbm`)."""
    recipe = RECIPES / f"{name}.yaml"
    return recipe if recipe.parent == RECIPES and recipe.exists() and not Path(name).exists() else Path(name)


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file.

    Raises:
        UserError: no file, not YAML, not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"can't read the configuration {str(path)!r}: {error}. Give a YAML file, or a recipe: {_recipes()}"
        ) from error
    if not isinstance(values, dict):
        raise UserError(f"the configuration {str(path)!r} is no mapping of options to values")
    return values


def _recipes() -> str:
    return ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))


def make_parser(loss: str, miner: str, source: str, prog: str = "pullpush train") -> ArgumentParser:
    """The parser of a run's options; those of loss, miner and reader of the data follow from their signatures."""
    parser = ArgumentParser(prog=prog, exit_on_error=False)
    parser.add_argument(
        "--config",
        help=f"a YAML file with any of the options below, or a recipe ({_recipes()}); what is typed beside it wins",
    )
    parser.add_class_arguments(Config, skip={"loss", "miner", "memory", "data.options"})
    reader = reader_of(source)
    placed = {p.name for p in signature(reader).parameters.values() if p.kind is not p.KEYWORD_ONLY}
    parser.add_function_arguments(reader, "data", as_group=False, skip={"root", *placed}, fail_untyped=False)
    parser.add_argument("--loss.name", default=loss, help=f"one of: {', '.join(losses.REGISTRY)}")
    parser.add_function_arguments(losses.REGISTRY[loss], "loss", skip=SKIPPED, fail_untyped=False)
    parser.add_argument("--miner.name", default=miner, help=f"none, or one of: {', '.join(miners.REGISTRY)}")
    if miner != "none":
        parser.add_function_arguments(miners.REGISTRY[miner], "miner", skip=SKIPPED, fail_untyped=False)
    parser.add_class_arguments(
        memory.CrossBatchMemory, "memory", skip={"dim", "size", "items", "label_shape"}, fail_untyped=False
    )
    parser.add_argument(
        "--memory.size", type=float, default=0.0,
        help="places of the cross-batch memory; 0 for none, up to 1 as a share of the training set",
    )  # fmt: skip
    parser.add_argument(
        "--memory.fill", type=bool, default=False,
        help="at start_step, fill it with embeddings of a seeded draw of training items by the model as it is then",
    )  # fmt: skip
    return parser


def _sorted_out(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Values of the configuration files, and the other words with their options in full."""
    values: dict[str, Any] = {}
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--config":
            values |= _flatten(read_yaml(config_file(value if equals else next(rest, ""))))
        else:
            words.append(_long(name) + equals + value if word.startswith("--") else word)
    return values, words


def _with_task(values: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """The values above the defaults of the task; of a loss's options, those that the loss has."""
    defaults = TASK_DEFAULTS.get(_said("task", values, words) or "image", {})
    loss = losses.REGISTRY.get(_said("loss.name", {**defaults, **values}, words) or "")
    own = {"name", *(signature(loss).parameters if loss else ())}
    return {**{k: v for k, v in defaults.items() if not k.startswith("loss.") or k[5:] in own}, **values}


def _chosen(values: dict[str, Any], words: list[str]) -> tuple[str, str, str]:
    loss = _known("loss", _said("loss.name", values, words) or "multi_similarity", losses.REGISTRY)
    miner = _said("miner.name", values, words) or "auto"
    if miner == "auto":
        miner = MINER_OF.get(loss, "none")
    if miner != "none":
        _known("miner", miner, miners.REGISTRY)
    return loss, miner, _said("data.source", values, words) or "emoji"


def _parse(values: dict[str, Any], words: list[str]) -> Config:
    for kind in ("loss", "miner"):
        # Another loss than the file's: the options of the file's loss are not its own.
        if _said(f"{kind}.name", {}, words) not in (None, values.get(f"{kind}.name")):
            values = {k: v for k, v in values.items() if not k.startswith(f"{kind}.")}
    values = _with_task(values, words)
    loss, miner, source = _chosen(values, words)
    parser = make_parser(loss, miner, source)
    known = [k[2:] for k in parser._option_string_actions if k.startswith("--")]
    for option in [*values, *(w[2:].partition("=")[0] for w in words if w.startswith("--"))]:
        _known("option", option, known, f" of loss {loss!r}" if option.startswith("loss.") else "")
    try:
        parser.set_defaults({**values, "loss.name": loss, "miner.name": miner})
        words = [*words, f"--loss.name={loss}", f"--miner.name={miner}"]
        return _build(Config, parser.parse_args(words))  # type: ignore[no-any-return]
    except ArgumentError as error:
        raise UserError(_plain(error)) from error


def _plain(error: ArgumentError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines).replace('Parser key "', 'option "').replace("<class 'int'>", "whole number")


def _build(cls: type, found: Namespace) -> Any:
    values: dict[str, Any] = {}
    for f in fields(cls):
        value = found.get(f.name, {})
        inner = f.default_factory() if callable(f.default_factory) else None
        if is_dataclass(inner):
            value = _build(type(inner), value)
        elif isinstance(value, Namespace):
            value = value.as_dict()
            value = {"name": value["name"], **value} if "name" in value else value
        values[f.name] = value
    if cls is DataConfig:
        values["options"] = {k: v for k, v in found.items() if k not in values}
    return cls(**values)


def _said(option: str, values: Mapping[str, Any], words: list[str]) -> str | None:
    found = values.get(option)
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == f"--{option}":
            found = value if equals else "".join(words[place + 1 : place + 2])
    return found


def _known(kind: str, choice: str, known: Any, where: str = "") -> str:
    if choice in known:
        return choice
    near = get_close_matches(choice, known, 1, cutoff=0.5)
    shown = f"--{choice}" if kind == "option" else repr(choice)
    hint = f"did you mean {'--' if kind == 'option' else ''}{near[0]}?" if near else "see pullpush train --help"
    raise UserError(f"unknown {kind} {shown}{where}: {hint}")


def _long(word: str) -> str:
    name = word[2:].replace("-", "_")
    return f"--{SHORT.get(name, name)}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('-', '_')}"
        if isinstance(value, Mapping):
            flat |= _flatten(value, "data." if name == "data.options" else f"{name}.")
        else:
            flat[SHORT.get(name, name)] = value
    return flat
