"""What there is: losses, miners and regularisers with their options and help, from signatures and docstrings alone."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pullpush.criterion.choices import choose, options_of
from pullpush.maths import losses as loss_room
from pullpush.maths import miners as miner_room
from pullpush.maths import regularizers as regularizer_room
from pullpush.signatures import arguments, summary

__all__ = ["Entry", "Option", "describe", "losses", "miners", "regularizers"]


class Option(NamedTuple):
    """An option of a loss: its default, its type as written, and what the docstring says of it."""

    default: Any
    annotation: Any
    help: str


class Entry(NamedTuple):
    """A loss, miner or regulariser.

    Attributes:
        name: by which `Criterion` takes it.
        kind: "loss", "miner" or "regularizer".
        function: the pure function.
        options: name to Option, in the order of the signature.
        summary: first sentence of the docstring.
        doc: the docstring, without indentation.
        traits: of a loss, `losses.Traits`; None otherwise.
    """

    name: str
    kind: str
    function: Callable[..., Any]
    options: Mapping[str, Option]
    summary: str
    doc: str
    traits: loss_room.Traits | None


def losses() -> dict[str, Entry]:
    """All losses by name."""
    return _entries("loss", loss_room.REGISTRY)


def miners() -> dict[str, Entry]:
    """All miners by name."""
    return _entries("miner", miner_room.REGISTRY)


def regularizers() -> dict[str, Entry]:
    """All regularisers by name."""
    return _entries("regularizer", regularizer_room.REGISTRY)


def describe(name: str, kind: str = "loss") -> Entry:
    """One of them.

    Raises:
        UserError: no such name; the message gives the nearest.
    """
    rooms = {"loss": loss_room.REGISTRY, "miner": miner_room.REGISTRY, "regularizer": regularizer_room.REGISTRY}
    choose(kind, name, rooms[kind])
    return _entries(kind, rooms[kind])[name]


def _entries(kind: str, registry: Mapping[str, Callable[..., Any]]) -> dict[str, Entry]:
    return {name: _entry(name, kind, function) for name, function in registry.items()}


def _entry(name: str, kind: str, function: Callable[..., Any]) -> Entry:
    doc = inspect.getdoc(function) or ""
    said = arguments(doc)
    options = {k: Option(p.default, p.annotation, said.get(k, "")) for k, p in options_of(function).items()}
    traits = loss_room.traits_of(function) if kind == "loss" else None
    return Entry(name, kind, function, options, summary(doc), doc, traits)
