"""Names: the nearest right one, for messages, fresh ones, and dotted ones."""

import uuid
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pullpush.errors import UserError

__all__ = ["did_you_mean", "dotted", "few", "fresh", "look_up"]

T = TypeVar("T")


def did_you_mean(
    choice: object, known: Iterable[str], otherwise: str, show: str = "{}", cutoff: float = 0.6, most: int = 1
) -> str:
    """`did you mean NEAREST?`, or `otherwise` where none of the known names is near.

    Args:
        choice: what was given.
        known: what could have been meant.
        otherwise: said where nothing is near.
        show: how a name is written: `{!r}`, `--{}`.
        cutoff: how near it must be, from 0 to 1.
        most: how many names are said at most, the nearest first.
    """
    near = get_close_matches(str(choice), list(known), most, cutoff)
    return f"did you mean {' or '.join(map(show.format, near))}?" if near else otherwise


def few(names: Iterable[object], most: int = 3) -> str:
    """The first of some names, and how many more there are: `a, b, c and 4 more`."""
    first = list(map(str, names))
    return ", ".join(first[:most]) + (f" and {len(first) - most} more" if len(first) > most else "")


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their full names, {"optimizer": {"lr": 1}} as {"optimizer.lr": 1}; tuples as lists."""
    named: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            named |= dotted(value, f"{prefix}{name}.")
        else:
            named[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return named


def fresh() -> str:
    """A name that nothing has had before: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def look_up(kind: str, name: str, known: Mapping[str, T], otherwise: str = "") -> T:
    """What has that name.

    Args:
        kind: of thing, for the message.
        name: of one.
        known: all that there are.
        otherwise: said where nothing is near; by default, all names.

    Raises:
        UserError: nothing has that name; with the nearest that is there.
    """
    if name not in known:
        hint = did_you_mean(name, known, otherwise or f"known: {', '.join(known)}", "{!r}")
        raise UserError(f"unknown {kind} {name!r}: {hint}")
    return known[name]
