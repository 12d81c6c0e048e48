"""What is chosen by name, and its options: checked once, with the nearest right name in the error."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

from pullpush.errors import UserError
from pullpush.maths import miners
from pullpush.maths.pairs import Pairs

__all__ = ["Choice", "check_options", "choose", "make_miner"]

Choice = str | Callable[..., Any] | Mapping[str, Any]


def choose(kind: str, choice: Any, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The function of that name, or the function itself.

    Raises:
        UserError: an unknown name.
    """
    if not isinstance(choice, str):
        return choice  # type: ignore[no-any-return]
    if choice not in known:
        near = get_close_matches(choice, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise UserError(f"unknown {kind} {choice!r}: {hint}")
    return known[choice]


def check_options(kind: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, if the function has them all.

    Raises:
        UserError: it has no such option.
    """
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known) or 'none'}"
            raise UserError(f"{kind} {getattr(function, '__name__', function)!r} has no option {option!r}: {hint}")
    return dict(options)


def make_miner(choice: Choice | None) -> Callable[..., Pairs] | None:
    """A miner with its options: of a name, a mapping with `name` and options, or a function."""
    if choice is None or callable(choice):
        return choice
    options = dict(choice) if isinstance(choice, Mapping) else {"name": choice}
    function = choose("miner", options.pop("name"), miners.REGISTRY)
    return partial(function, **check_options("miner", function, options))
