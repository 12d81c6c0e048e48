"""What a function can be given, read from its source without what it imports: help takes no second for torch."""

import builtins
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

from pullpush.bounds import signature_of, types_of

__all__ = ["REQUIRED", "Option", "Signature", "arguments", "of", "one", "room", "section", "summary"]

# Imported where a source is read, as is the standard library: types that options have, cheap to import.
REAL = ("pullpush.bounds", "pullpush.data.readers")
REQUIRED: Any = inspect.Parameter.empty
"""The default of what has none."""


class Option(NamedTuple):
    """An option: its default, its type with bounds, what the docstring says of it, and whether it goes by name only."""

    default: Any
    annotation: Any
    help: str
    by_name: bool = True


class Signature(NamedTuple):
    """A function, or a class as it is made: its name, its options in order, its docstring without indentation, and
    whether it takes others, too."""

    name: str
    options: Mapping[str, Option]
    doc: str
    takes_others: bool = False

    def own(self) -> dict[str, Option]:
        """The options that go by name only: those that a person chooses."""
        return {name: option for name, option in self.options.items() if option.by_name}


@lru_cache
def room(package: str) -> Mapping[str, Signature]:
    """The functions that the files of a package list in their `__all__`, sorted by name, as `maths.registry` does."""
    files = [path for path in _path(package).glob("*.py") if path.stem not in ("__init__", "base")]
    known = {name: values[name] for values in map(_run, files) for name in values["__all__"]}
    return {name: of(known[name]) for name in sorted(known)}


def one(place: str) -> Signature:
    """A function by its full name, `pullpush.data.sets.emoji.read_emoji`."""
    module, _, name = place.rpartition(".")
    return of(_run(_path(module).with_suffix(".py"))[name])


def of(function: Callable[..., Any]) -> Signature:
    """A function or class that is at hand."""
    doc = inspect.getdoc(function) or ""
    kinds, texts = types_of(function), arguments(doc)
    parameters = signature_of(function).parameters.items()
    options = {
        name: Option(p.default, kinds.get(name, p.annotation), texts.get(name, ""), p.kind is p.KEYWORD_ONLY)
        for name, p in parameters
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    takes_others = any(p.kind is p.VAR_KEYWORD for _, p in parameters)
    return Signature(getattr(function, "__name__", str(function)), options, doc, takes_others)


def summary(doc: str) -> str:
    """The first paragraph, as one line."""
    return " ".join(doc.partition("\n\n")[0].split())


def section(doc: str, title: str) -> str:
    """The lines below a title of a docstring, without their indentation."""
    lines = re.search(rf"^{title}:\n((?:[ ]{{4}}.*\n?|\n)+)", doc, re.MULTILINE)
    return dedent(lines[1]).strip("\n") if lines else ""


def arguments(doc: str) -> dict[str, str]:
    """Name to help, of the docstring's section `Args`."""
    entries = re.findall(r"^(\w[\w, ]*):\s+(.*(?:\n[ ].*)*)", section(doc, "Args"), re.MULTILINE)
    return {name.strip(): " ".join(text.split()) for names, text in entries for name in names.split(",")}


def _path(module: str) -> Path:
    return Path(__file__).parent.joinpath(*module.split(".")[1:])


@lru_cache(maxsize=256)
def _run(path: Path) -> dict[str, Any]:
    """The names of a source file of our own, with `_Unread` for what it imports."""
    known: dict[str, Any] = {"__name__": path.stem, "__builtins__": {**vars(builtins), "__import__": _import}}
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), known)
    return known


def _import(name: str, *args: Any) -> Any:
    real = name in REAL or name.partition(".")[0] in sys.stdlib_module_names
    return __import__(name, *args) if real else _Unread("unread", (), {})


class _Unread(type):
    """What is imported and not needed for a signature: it has all attributes, and leaves what it decorates as it is."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unread(name, (), {})

    def __getitem__(cls, key: Any) -> Any:
        return cls

    def __iter__(cls) -> Any:
        return iter(())

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return args[0] if args and inspect.isfunction(args[0]) else cls
