"""Options of a run by name: from the command line, from YAML, from a mapping. All are checked by their types."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pullpush.bounds import types_of
from pullpush.data.readers import place_of
from pullpush.errors import UserError
from pullpush.files import read_yaml
from pullpush.names import look_up
from pullpush.runs.checked import PROG, SHORT
from pullpush.runs.config import JOINT_DEFAULTS, LOSS, MINER, TEXT_DEFAULTS, TEXT_LOSS, Config, with_texts
from pullpush.runs.groups import DataConfig
from pullpush.signatures import Option, Signature, of, one, room, summary
from pullpush.words import Said, typed, unknown

__all__ = [
    "choices",
    "config_from",
    "config_of",
    "losses",
    "merged",
    "miners",
    "options_of",
    "parse",
    "said",
    "sections",
]

RECIPES = Path(str(files("pullpush"))) / "recipes"
FILE = f"a YAML file or a recipe ({', '.join(sorted(path.stem for path in RECIPES.glob('*.yaml')))})"

# What of the options of the run itself is shown apart from them, by title.
APART = {
    "while it trains": ("validate_every", "on_collapse", "checkpoint_every", "tensorboard", "trackers"),
    "after training": ("gate", "rerank", "nmi", "table", "report"),
    "the machine": ("device", "precision", "devices", "nodes", "gradient_cache", "compile", "compile_encoder"),
    "the loss": ("learn", "similarity", "matryoshka"),
}
# Two ways to say one thing: the one that is said last counts.
ONE_OF = [(f"{tower}.tune", f"{tower}.freeze") for tower in ("encoder", "text")]

# The signatures of all losses and miners, without importing them.
losses, miners = partial(room, "pullpush.maths.losses"), partial(room, "pullpush.maths.miners")


def config_from(values: Mapping[str, Any]) -> Config:
    """A checked Config of nested or dotted values, with their short forms.

        config_from({"data": "emoji", "loss": {"name": "circle", "margin": 0.4}, "steps": 200})

    Raises:
        UserError: an unknown option, or a value of the wrong type or out of its bounds.
    """
    options = said(values)
    return config_of(options)


def parse(argv: Sequence[str]) -> Config:
    """A checked Config of a command line; `--config FILE` gives values before it.

    Raises:
        UserError: an unknown option, a value of the wrong type or out of its bounds, an unreadable file.
    """
    return config_of(merged(*typed(argv)))


def said(values: Mapping[str, Any], prefix: str = "") -> dict[str, Said]:
    """Nested values by the full names of the options."""
    flat: dict[str, Said] = {}
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('-', '_')}"
        if name == "miner" and value is None:
            value = "none"
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        elif hasattr(value, "named"):  # a loss or a miner as an object
            value = value.named()
        if not isinstance(value, Mapping):
            name = SHORT.get(name, name)
            flat[name] = Said(name, [value])
        elif name.count(".") > 2:
            raise UserError(f"{name[:60]} is nested deeper than any option; see {PROG} --help")
        else:
            flat |= said(value, "data." if name == "data.options" else f"{name}.")
    return flat


def merged(
    options: Mapping[str, Said], words: Sequence[str] = (), below: Mapping[str, Any] | None = None
) -> dict[str, Said]:
    """What a command line says, above what its configuration files say, above `below`, by full names.

    A change of loss or miner drops the options of the former one; of two that say one thing the last one counts.
    """
    if words:
        raise UserError(f"{words[0]!r} belongs to no option: give --OPTION VALUE, see {PROG} --help")
    layers = [said(below or {})]
    for name in options["config"].values if "config" in options else ():
        if name is True:
            raise UserError(f"--config needs a value: {FILE}")
        recipe = RECIPES / f"{name}.yaml"
        known = recipe.parent == RECIPES and recipe.exists() and not Path(name).exists()
        layers.append(said(read_yaml(recipe if known else Path(name), cure=f"give {FILE}")))
    full = {SHORT.get(name, name): each.values for name, each in options.items() if name != "config"}
    values: dict[str, Said] = {}
    for layer in (*layers, {name: Said(f"--{name}", each) for name, each in full.items()}):
        for tuned, frozen in ONE_OF:
            if (tuned in layer) != (frozen in layer):
                values.pop(frozen if tuned in layer else tuned, None)
        names = {kind: _text(layer, f"{kind}.name") for kind in ("loss", "miner")}
        changed = [kind for kind, name in names.items() if name not in ("", _text(values, f"{kind}.name"))]
        values = {name: each for name, each in values.items() if name.split(".")[0] not in changed} | layer
    return values


def config_of(values: Mapping[str, Said]) -> Config:
    """A checked Config of options by their full names.

    Raises:
        UserError: an unknown option, or a value of the wrong type or out of its bounds.
    """
    loss, miner, source, task, brought = choices(values)
    values = {**values, **said({"loss": loss, "miner": miner})}
    if _text(values, "text.name") == "auto":
        del values["text.name"]
    known = options_of(loss, miner, source, task, brought)
    for name, each in values.items():
        if name not in known:
            own = ", ".join(f"{each.shown}{option[len(name) :]}" for option in known if option.startswith(f"{name}."))
            if own:
                raise UserError(f"{each.shown} has options of its own: {own}")
            raise unknown(each.shown, [*SHORT, *known], PROG, f" of loss {loss!r}" if name.startswith("loss.") else "")
    for tuned, frozen in ONE_OF:
        if _text(values, tuned, "auto") != "auto":  # then the default of the other does not count
            known[frozen] = known[frozen]._replace(default=None)
    nested: dict[str, Any] = {}
    for name, option in known.items():
        group, _, last = name.rpartition(".")
        within = nested.setdefault(group, {}) if group else nested
        if group == "data" and last not in types_of(DataConfig):
            within = within.setdefault("options", {})
        within[last] = values[name].read(option.annotation) if name in values else option.default
    return Config(**nested)


def choices(values: Mapping[str, Said]) -> tuple[str, str, str, str, dict[str, Any]]:
    """The loss, the miner, the source of the data and the task, which bring options or defaults of their own; and the
    defaults that the encoder brings."""
    task = _text(values, "task", Config.task)
    loss = _text(values, "loss.name", TEXT_LOSS if with_texts(task) else LOSS)
    source = _text(values, "data.source", DataConfig.source)
    return loss, _text(values, "miner.name", MINER), source, task, _of_joint(values) if with_texts(task) else {}


def _of_joint(values: Mapping[str, Said]) -> dict[str, Any]:
    """The defaults of a run with both towers of a joint model, empty where its encoder is none.

    The space of the two towers is kept: linear heads of as many dimensions, which start as the identity, and the loss
    at the temperature of the checkpoint. Options that say all of this, as those of a run do, are not looked behind.
    """
    name, text = _text(values, "encoder.name"), _text(values, "text.name", "auto")
    if ":" not in name or text not in ("auto", name):
        return {}
    if text == name and {"encoder.dim", *JOINT_DEFAULTS} <= values.keys():
        return {}
    from pullpush.encoders.backbones import joint

    found = joint(name)
    if found is None:
        return {}
    own: dict[str, Any] = {**JOINT_DEFAULTS, "text.name": name, "encoder.dim": found.dim}
    if _text(values, "encoder.head") == "none":
        own["text.head"] = "none"
    if found.temperature is not None:
        own |= {"loss.temperature": found.temperature, "loss.log_scale": -math.log(found.temperature)}
    if found.bias is not None:
        own["loss.bias"] = found.bias
    return own


def sections(
    loss: str, miner: str, source: str, task: str = Config.task, own: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Option]]:
    """The options of a run by the title under which help shows them; `own` defaults are those of the encoder.

    Raises:
        UserError: there is no such loss or miner.
    """
    run: dict[str, Option] = {}
    shown = {"the run": run}
    kinds = {"loss": losses(), "miner": {**miners(), "none": Signature("none", {}, "")}}
    for name, option in of(Config).options.items():
        if name in kinds:
            choice = look_up(name, loss if name == "loss" else miner, kinds[name], f"see {PROG} --help")
            title, options = f"the {name}", {"name": Option(choice.name, str, f"one of {', '.join(kinds[name])}")}
            options |= choice.own()
        elif isinstance(option.annotation, type) and is_dataclass(option.annotation):
            about = of(option.annotation)
            words = summary(about.doc).rstrip(".")
            title, options = words[0].lower() + words[1:], dict(about.options)
            if name == "data":
                options = {**options, **one(place_of(source)).own(), **options}
                del options["options"]
        else:
            run[name] = option
            continue
        shown[title] = {f"{name}.{each}": option for each, option in options.items()}
    numbers = [name.removeprefix("loss.") for name, o in shown["the loss"].items() if isinstance(o.default, float)]
    run["learn"] = run["learn"]._replace(annotation=Literal["auto", "none", *numbers])
    for title, names in APART.items():
        shown[title] = {**shown.get(title, {}), **{name: run.pop(name) for name in names}}
    usual = {**(TEXT_DEFAULTS if with_texts(task) else {}), **(own or {})}
    return {
        title: {name: option._replace(default=usual.get(name, option.default)) for name, option in options.items()}
        for title, options in shown.items()
    }


def options_of(
    loss: str, miner: str, source: str, task: str = Config.task, own: Mapping[str, Any] | None = None
) -> dict[str, Option]:
    """The options of a run by name; see `sections`."""
    return {n: option for group in sections(loss, miner, source, task, own).values() for n, option in group.items()}


def _text(values: Mapping[str, Said], name: str, default: str = "") -> str:
    """The text of an option that decides which others there are, or what others default to."""
    return values[name].text(default) if name in values else default
