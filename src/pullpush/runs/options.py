"""Options of a run by name: from the command line, from YAML, from a mapping. All are checked by their types."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from importlib.resources import files
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pullpush.bounds import Bound, accepted, check, read, types_of
from pullpush.data.readers import place_of
from pullpush.errors import UserError
from pullpush.files import read_yaml
from pullpush.names import did_you_mean
from pullpush.runs.config import MINER_OF, TASK_DEFAULTS, Config
from pullpush.signatures import Option, arguments, one, room, summary
from pullpush.words import said, typed, unknown, value_of

__all__ = ["SHORT", "chosen", "config_file", "config_from", "options_of", "parse", "sections", "task_defaults"]

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
PROG = "pullpush train"
# Options that hold others; `options` of the data are beside its own.
DEEPEST = 2

Said = Mapping[str, Sequence[str | None]]


def config_from(values: Mapping[str, Any]) -> Config:
    """A checked Config of nested or dotted values, with their short forms.

        config_from({"data": "emoji", "loss": {"name": "circle", "margin": 0.4}, "steps": 200})

    Raises:
        UserError: an unknown option, or a value of the wrong type or out of its bounds.
    """
    return _parse(_flatten(values), {})


def parse(argv: Sequence[str], defaults: Mapping[str, Any] | None = None) -> Config:
    """A checked Config of a command line; `--config FILE` gives values before it, and `defaults` values before these.

    Raises:
        UserError: an unknown option, a value of the wrong type or out of its bounds, an unreadable file.
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


def _recipes() -> str:
    return ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))


def sections(loss: str, miner: str, source: str) -> dict[str, dict[str, Option]]:
    """The options of a run by the title under which help shows them; those of loss, miner and reader of the data
    follow from their signatures."""
    config = f"a YAML file with any of these options, or a recipe ({_recipes()}); what is typed beside it wins"
    found: dict[str, dict[str, Option]] = {"the run": {"config": Option(None, str, config)}}
    groups = {}
    for name, option in _fields(Config).items():
        if is_dataclass(option.annotation):
            title = summary(option.annotation.__doc__ or "").rstrip(".").lower()
            groups[title] = _named(name, _fields(option.annotation))
        elif name not in ("loss", "miner", "memory"):
            found["the run"][name] = option
    found |= groups
    data = found["what to train on"]
    del data["data.options"]
    data |= _named("data", _own(one(place_of(source)).options, ("root",)))
    found["the loss"] = _chosen_options("loss", loss, losses())
    found["the miner"] = _chosen_options("miner", miner, miners())
    found["the cross-batch memory"] = _memory()
    numbers = (k for k, o in found["the loss"].items() if float in _plain(o.annotation))
    learned = Literal[("auto", "none", *(k.removeprefix("loss.") for k in numbers))]  # type: ignore[valid-type]
    found["the run"]["learn"] = found["the run"]["learn"]._replace(annotation=learned)
    return found


def options_of(loss: str, miner: str, source: str) -> dict[str, Option]:
    """The options of a run by name."""
    return {name: option for section in sections(loss, miner, source).values() for name, option in section.items()}


@lru_cache
def losses() -> Mapping[str, Any]:
    """The signatures of all losses, without importing them."""
    return room("pullpush.maths.losses", skip=["base"])


@lru_cache
def miners() -> Mapping[str, Any]:
    """The signatures of all miners."""
    return room("pullpush.maths.miners")


def _named(group: str, options: Mapping[str, Option]) -> dict[str, Option]:
    return {f"{group}.{name}": option for name, option in options.items()}


def _fields(cls: Any) -> dict[str, Option]:
    """The fields of a dataclass."""
    kinds, about = types_of(cls), arguments(cleandoc(cls.__doc__ or ""))
    return {f.name: Option(_default(f), kinds[f.name], about.get(f.name, "")) for f in fields(cls)}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _own(options: Mapping[str, Option], skip: Sequence[str] = ()) -> dict[str, Option]:
    """Those that a person chooses."""
    return {k: o for k, o in options.items() if o.by_name and k not in skip}


def _chosen_options(kind: str, name: str, known: Mapping[str, Any]) -> dict[str, Option]:
    """The name, among all that there are, and the options of what it names."""
    none = "" if kind == "loss" else "none, or "
    found = {f"{kind}.name": Option(name, str, f"{none}one of: {', '.join(known)}")}
    return found | (_named(kind, _own(known[name].options)) if name in known else {})


def _memory() -> dict[str, Option]:
    signature = one("pullpush.criterion.memory.CrossBatchMemory")
    return {
        "memory.size": Option(
            0.0,
            Annotated[float, Bound(0, 1e8)],
            "places of the cross-batch memory; 0 for none, up to 1 as a share of the training set",
        ),
        "memory.fill": Option(
            False,
            bool,
            "at start_step, fill it with embeddings of a seeded draw of training items by the model as it is then",
        ),
        **_named("memory", _own(signature.options, ("items", "label_shape"))),
    }


def _plain(annotation: Any) -> tuple[Any, ...]:
    """The types within an annotation."""
    return (annotation, *(each for arg in get_args(annotation) for each in _plain(arg)))


def _sorted_out(argv: Sequence[str]) -> tuple[dict[str, Any], Said]:
    """Values of the configuration files, and what is typed, by the options' full names."""
    options, others = typed(argv, full=lambda name: SHORT.get(name, name))
    if others:
        raise UserError(f"{others[0]!r} belongs to no option: give --OPTION VALUE, see {PROG} --help")
    values: dict[str, Any] = {}
    words = said(options)
    for name in words.pop("config", []):
        if name is None:
            raise UserError(f"--config needs a value: a YAML file or a recipe ({_recipes()})")
        values |= _flatten(read_yaml(config_file(name), cure=f"give a YAML file, or a recipe: {_recipes()}"))
    return values, words


def _with_task(values: dict[str, Any], words: Said) -> dict[str, Any]:
    """The values above the defaults of the task; of a loss's options, those that the loss has."""
    defaults = TASK_DEFAULTS.get(_text("task", values, words) or "image", {})
    loss = losses().get(_text("loss.name", {**defaults, **values}, words) or "")
    own = {"name", *(loss.options if loss else ())}
    return {**{k: v for k, v in defaults.items() if not k.startswith("loss.") or k[5:] in own}, **values}


def _chosen(values: Mapping[str, Any], words: Said) -> tuple[str, str, str]:
    loss = _known("loss", _text("loss.name", values, words) or "multi_similarity", losses())
    miner = _text("miner.name", values, words) or "auto"
    if miner == "auto":
        miner = MINER_OF.get(loss, "none")
    if miner != "none":
        _known("miner", miner, miners())
    return loss, miner, _text("data.source", values, words) or "emoji"


def _parse(values: dict[str, Any], words: Said) -> Config:
    for kind in ("loss", "miner"):
        # Another loss than the file's: the options of the file's loss are not its own.
        if _text(f"{kind}.name", {}, words) not in (None, values.get(f"{kind}.name")):
            values = {k: v for k, v in values.items() if not k.startswith(f"{kind}.")}
    values = _with_task(values, words)
    loss, miner, source = _chosen(values, words)
    known = options_of(loss, miner, source)
    del known["config"]
    groups = {name.partition(".")[0] for name in known if "." in name}
    for hyphens, given in (("", values), ("--", words)):
        for name in given:
            if name in groups and name not in known:
                own = ", ".join(f"{hyphens}{each}" for each in known if each.startswith(f"{name}."))
                raise UserError(f"{hyphens}{name} has options of its own: {own}")
            if name not in known:
                where = f" of loss {loss!r}" if name.startswith("loss.") else ""
                raise unknown(name, known, PROG, where, hyphens)
    found = {name: _value(name, option, values, words) for name, option in known.items()}
    return _build({**found, "loss.name": loss, "miner.name": miner})


def _value(name: str, option: Option, values: Mapping[str, Any], words: Said) -> Any:
    """What was typed, else what a file or Python says, else the default."""
    if name in words:
        return value_of(name, words[name], option.annotation)
    if name not in values:
        return option.default
    value = values[name]
    # YAML takes 1e-4 for text.
    readable = isinstance(value, str) and not accepted(value, option.annotation)
    return check(name, read(value, option.annotation) if readable else value, option.annotation)


def _build(found: Mapping[str, Any]) -> Config:
    """The Config of values by full names."""
    made: dict[str, Any] = {}
    for name, value in found.items():
        group, dot, rest = name.partition(".")
        if dot:
            made.setdefault(group, {})[rest] = value
        else:
            made[name] = value
    for group, option in _fields(Config).items():
        if is_dataclass(option.annotation):
            cls, own = option.annotation, made[group]
            assert isinstance(cls, type)
            names = [f.name for f in fields(cls)]
            if "options" in names:
                own = {**own, "options": {k: v for k, v in own.items() if k not in names}}
            made[group] = cls(**{k: v for k, v in own.items() if k in names})
    return Config(**made)


def _text(option: str, values: Mapping[str, Any], words: Said) -> str | None:
    """What is said of an option that decides which others there are."""
    if option in words:
        return check(f"--{option}", words[option][-1], str)  # type: ignore[no-any-return]
    return check(option, values[option], str | None) if option in values else None


def _known(kind: str, choice: str, known: Mapping[str, Any]) -> str:
    if choice not in known:
        raise UserError(f"unknown {kind} {choice!r}: {did_you_mean(choice, known, f'see {PROG} --help', cutoff=0.5)}")
    return choice


def _flatten(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested values by their full names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('-', '_')}"
        if name == "miner" and value is None:
            value = "none"
        value = value.named() if hasattr(value, "named") else value  # a loss or a miner as an object
        if isinstance(value, Mapping):
            if depth > DEEPEST:
                raise UserError(f"{name[:60]} is nested deeper than any option; see {PROG} --help")
            flat |= _flatten(value, "data." if name == "data.options" else f"{name}.", depth + 1)
        else:
            flat[SHORT.get(name, name)] = value
    return flat
