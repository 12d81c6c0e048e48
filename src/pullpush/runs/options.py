"""Options of a run by name: from the command line, from YAML, from a mapping. All are checked by their types."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pullpush.bounds import accepted, check, read
from pullpush.data.readers import place_of
from pullpush.errors import UserError
from pullpush.files import read_yaml
from pullpush.names import look_up
from pullpush.runs.config import PROG, SHORT, TEXT_DEFAULTS, Config, DataConfig, miner_of, with_texts
from pullpush.signatures import Option, Signature, of, one, room, summary
from pullpush.words import Texts, typed, unknown, value_of

__all__ = ["chosen", "config_file", "config_from", "options_of", "parse", "sections", "task_defaults"]

RECIPES = Path(str(files("pullpush"))) / "recipes"
# Options that hold others; `options` of the data are beside its own.
DEEPEST = 2


def config_from(values: Mapping[str, Any]) -> Config:
    """A checked Config of nested or dotted values, with their short forms.

        config_from({"data": "emoji", "loss": {"name": "circle", "margin": 0.4}, "steps": 200})

    Raises:
        UserError: an unknown option, or a value of the wrong type or out of its bounds.
    """
    named = _flatten(values)
    return _config(named)


def parse(argv: Sequence[str], defaults: Mapping[str, Any] | None = None) -> Config:
    """A checked Config of a command line; `--config FILE` gives values before it, and `defaults` values before these.

    Raises:
        UserError: an unknown option, a value of the wrong type or out of its bounds, an unreadable file.
    """
    return _config(_over(_flatten(defaults or {}), _typed(argv)))


def chosen(argv: Sequence[str]) -> tuple[str, str, str]:
    """The loss, the miner and the source of the data that a command line names: they bring options of their own."""
    return _chosen(_with_task(_typed(argv)))


def task_defaults(argv: Sequence[str]) -> dict[str, Any]:
    """What the task of a command line takes instead of the general defaults."""
    typed = _typed(argv)
    return {name: value for name, value in _with_task(typed).items() if name not in typed}


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
    run = {"config": Option(None, str, config)}
    shown = {"the run": run}
    for name, option in of(Config).options.items():
        if name == "loss":
            shown["the loss"] = _of_choice(name, loss, losses(), "one of")
        elif name == "miner":
            shown["the miner"] = _of_choice(name, miner, miners(), "none, or one of")
        elif isinstance(option.annotation, type) and is_dataclass(option.annotation):
            about = of(option.annotation)
            shown[summary(about.doc).rstrip(".").lower()] = _named(name, about.options)
        else:
            run[name] = option
    data = shown["what to train on"]
    del data["data.options"]
    reader = one(place_of(source)).own()
    reader.pop("root", None)
    data |= _named("data", reader)
    numbers = [name.removeprefix("loss.") for name, o in shown["the loss"].items() if isinstance(o.default, float)]
    run["learn"] = run["learn"]._replace(annotation=Literal["auto", "none", *numbers])
    return shown


def options_of(loss: str, miner: str, source: str) -> dict[str, Option]:
    """The options of a run by name."""
    return {name: option for section in sections(loss, miner, source).values() for name, option in section.items()}


def losses() -> Mapping[str, Signature]:
    """The signatures of all losses, without importing them."""
    return room("pullpush.maths.losses", skip=("base",))


def miners() -> Mapping[str, Signature]:
    """The signatures of all miners."""
    return room("pullpush.maths.miners")


def _named(group: str, options: Mapping[str, Option]) -> dict[str, Option]:
    return {f"{group}.{name}": option for name, option in options.items()}


def _of_choice(kind: str, name: str, known: Mapping[str, Signature], which: str) -> dict[str, Option]:
    """The name, among all that there are, and the options of what it names."""
    own = known[name].own() if name in known else {}
    return _named(kind, {"name": Option(name, str, f"{which}: {', '.join(known)}"), **own})


def _typed(argv: Sequence[str]) -> dict[str, Any]:
    """What a command line says, by full names: values of its configuration files, and above them `Texts`."""
    options, others = typed(argv, full=lambda name: SHORT.get(name, name))
    if others:
        raise UserError(f"{others[0]!r} belongs to no option: give --OPTION VALUE, see {PROG} --help")
    values: dict[str, Any] = {}
    for name in options.pop("config", Texts()):
        if name is None:
            raise UserError(f"--config needs a value: a YAML file or a recipe ({_recipes()})")
        file = read_yaml(config_file(name), cure=f"give a YAML file, or a recipe: {_recipes()}")
        values = _over(values, _flatten(file))
    return _over(values, options)


def _over(values: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """What is typed later wins; a change of loss or miner drops the options typed for the former one."""
    other = [
        f"{kind}."
        for kind in ("loss", "miner")
        if _text(f"{kind}.name", later) not in (None, _text(f"{kind}.name", values))
    ]
    return {name: value for name, value in values.items() if not name.startswith(tuple(other))} | dict(later)


def _with_task(values: dict[str, Any]) -> dict[str, Any]:
    """The values above the defaults of the task; of a loss's options, those that the loss has."""
    defaults = TEXT_DEFAULTS if with_texts(_text("task", values) or Config.task) else {}
    loss = losses().get(_text("loss.name", {**defaults, **values}) or "")
    own = {"loss.name", *(_named("loss", loss.options) if loss else ())}
    return {name: value for name, value in defaults.items() if not name.startswith("loss.") or name in own} | values


def _chosen(values: Mapping[str, Any]) -> tuple[str, str, str]:
    loss = _text("loss.name", values) or str(Config.loss)
    look_up("loss", loss, losses(), f"see {PROG} --help")
    miner = miner_of(loss, _text("miner.name", values) or "auto")
    look_up("miner", miner, {**miners(), "none": None}, f"see {PROG} --help")
    return loss, miner, _text("data.source", values) or DataConfig.source


def _config(values: dict[str, Any]) -> Config:
    values = _with_task(values)
    loss, miner, source = _chosen(values)
    known = options_of(loss, miner, source)
    del known["config"]
    for name, value in values.items():
        if name not in known:
            hyphens = "--" if isinstance(value, Texts) else ""
            own = ", ".join(f"{hyphens}{each}" for each in known if each.startswith(f"{name}."))
            if own:
                raise UserError(f"{hyphens}{name} has options of its own: {own}")
            where = f" of loss {loss!r}" if name.startswith("loss.") else ""
            raise unknown(name, known, PROG, where, hyphens)
    made: dict[str, Any] = {}
    of_reader = {name for name in known if name.startswith("data.")} - {f"data.{f.name}" for f in fields(DataConfig)}
    read_with = {name: known[name].default for name in of_reader}
    for name, value in {**read_with, **values, "loss.name": loss, "miner.name": miner}.items():
        *groups, last = name.split(".")
        within = made
        for group in [*groups, "options"] if name in of_reader else groups:
            within = within.setdefault(group, {})
        within[last] = _value(name, value, known[name].annotation)
    return Config(**made)


def _value(name: str, value: Any, kind: Any) -> Any:
    if isinstance(value, Texts):
        return value_of(name, value, kind)
    # YAML takes 1e-4 for text.
    readable = isinstance(value, str) and not accepted(value, kind)
    return check(name, read(value, kind) if readable else value, kind)


def _text(option: str, values: Mapping[str, Any]) -> str | None:
    """The text of an option that decides which others there are."""
    value = values.get(option)
    if isinstance(value, Texts):
        return str(check(f"--{option}", value[-1], str))
    return None if value is None else str(check(option, value, str))


def _flatten(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested values by their full names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('-', '_')}"
        if name == "miner" and value is None:
            value = "none"
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        elif hasattr(value, "named"):  # a loss or a miner as an object
            value = value.named()
        if isinstance(value, Mapping):
            if depth > DEEPEST:
                raise UserError(f"{name[:60]} is nested deeper than any option; see {PROG} --help")
            flat |= _flatten(value, "data." if name == "data.options" else f"{name}.", depth + 1)
        else:
            flat[SHORT.get(name, name)] = value
    return flat
