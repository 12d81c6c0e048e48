"""What is chosen by name, and its options: checked once, with the nearest right name in the error."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pullpush.bounds import check, types_of
from pullpush.errors import UserError
from pullpush.maths.losses import traits_of
from pullpush.names import did_you_mean
from pullpush.signatures import GIVEN

__all__ = [
    "GIVEN",
    "Choice",
    "bind",
    "check_options",
    "choose",
    "is_whole",
    "options_of",
    "parameters_of",
    "told",
    "wants_unit_length",
]

Choice = str | Callable[..., Any] | Mapping[str, Any]


def choose(kind: str, choice: Any, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The function of that name, or the function itself.

    Raises:
        UserError: an unknown name.
    """
    if not isinstance(choice, str):
        return choice  # type: ignore[no-any-return]
    if choice not in known:
        hint = did_you_mean(choice, known, f"known: {', '.join(known)}", "{!r}")
        raise UserError(f"unknown {kind} {choice!r}: {hint}")
    return known[choice]


def check_options(kind: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, if the function has them all, each of its type and within its bounds.

    Raises:
        UserError: it has no such option; a value that the option does not take.
    """
    known, kinds = list(options_of(function)), types_of(function)
    name = f"{kind} {getattr(function, '__name__', function)!r}"
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known, f"it has: {', '.join(known) or 'none'}", "{!r}")
            raise UserError(f"{name} has no option {option!r}: {hint}")
    return {k: check(f"{k} of {name}", value, kinds.get(k, Any)) for k, value in options.items()}


def bind(kind: str, choice: Choice, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The function with its options: of a name, a mapping with `name` and options, or a function.

    Raises:
        UserError: an unknown name or option; a mapping without a name.
    """
    if not isinstance(choice, Mapping):
        return choose(kind, choice, known)
    options = dict(choice)
    if "name" not in options:
        raise UserError(f"{kind} {options} needs a name: {{'name': ..., ...}}")
    function = choose(kind, options.pop("name"), known)
    return partial(function, **check_options(kind, function, options))


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters by name."""
    return {k: p for k, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}


def options_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Those that a person chooses."""
    return {k: p for k, p in parameters_of(function).items() if k not in GIVEN}


def told(function: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """A function, perhaps a `partial` of one, with all its options: `circle(margin=0.4, scale=80.0)`."""
    if isinstance(function, partial):
        return told(function.func, {**function.keywords, **options})
    values = {name: options.get(name, parameter.default) for name, parameter in options_of(function).items()}
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}({', '.join(f'{option}={value!r}' for option, value in values.items())})"


def is_whole(function: Callable[..., Any], options: Mapping[str, Any]) -> bool:
    """Whether a loss or a miner, perhaps a `partial` of one, needs all anchors at once."""
    if isinstance(function, partial):
        return is_whole(function.func, {**function.keywords, **options})
    return traits_of(function).whole(options)


def wants_unit_length(function: Callable[..., Any] | None) -> bool:
    """Whether a loss or a miner, perhaps a `partial` of one, is of unit vectors."""
    while isinstance(function, partial):
        function = function.func
    return function is not None and traits_of(function).unit_length
