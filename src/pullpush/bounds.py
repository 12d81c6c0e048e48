"""What a value may be: its type, with the bounds beside it, and the one place where values are checked by it.

    def arcface(rectangle, *, margin: Radians = 0.5, scale: Positive = 64.0): ...

The same annotation checks the value from Python, YAML and the command line, and words the message and the help.
An upper bound is where more is of no use (float32 has no digits left), or costs work or memory without end.
"""

import inspect
import math
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, wraps
from itertools import repeat
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pullpush.errors import UserError
from pullpush.names import did_you_mean

__all__ = [
    "Bins",
    "Bound",
    "Centers",
    "CosineMargin",
    "Count",
    "Degrees",
    "Dim",
    "NonNegative",
    "Part",
    "Pixels",
    "Positive",
    "Radians",
    "Real",
    "Seed",
    "Share",
    "Whole",
    "Window",
    "check",
    "checked",
    "describe",
    "is_list",
    "signature_of",
    "types_of",
]


@dataclass(frozen=True)
class Bound:
    """Bounds of a number, or of the number of entries of a tuple, as in `Annotated[float, Bound(0, 1)]`.

    Args:
        low: smallest value.
        high: largest value.
        above: `low` itself is not allowed.
        below: `high` itself is not allowed.
        also: values allowed besides, such as 0 for none.
        unit: of the value; "radians" gets a hint where somebody may have meant degrees.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    also: tuple[float, ...] = ()
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether the value is within; NaN and infinity never are."""
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return (low and high) or value in self.also

    def __str__(self) -> str:
        also = "".join(f"{_number_in_words(value)} or " for value in self.also)
        low = "above" if self.above else "from"
        high = ("and below" if self.below else "and at most") if self.above else "to below" if self.below else "to"
        unit = f", in {self.unit}" if self.unit else ""
        return f"{also}{low} {_number_in_words(self.low)} {high} {_number_in_words(self.high)}{unit}"

    def hint(self, value: Any) -> str:
        """What may have been meant."""
        if self.unit == "radians" and self.high < abs(value) <= 360:
            return f": {value:g} degrees is {math.radians(value):.2g}"
        if self.unit == "degrees" and 0 < value <= math.pi / 2:
            return f": {value:g} radians is {math.degrees(value):.3g}"
        return ""


# Numbers in units of a similarity, and what multiplies or divides it: beyond, float32 keeps no digit of a cosine.
Real = Annotated[float, Bound(-1e6, 1e6)]
NonNegative = Annotated[float, Bound(0, 1e6)]
Positive = Annotated[float, Bound(1e-6, 1e6)]
CosineMargin = Annotated[float, Bound(0, 2)]  # the whole width of the cosine
Radians = Annotated[float, Bound(0, math.pi, unit="radians")]
Degrees = Annotated[float, Bound(0, 90, above=True, below=True, unit="degrees")]
Share = Annotated[float, Bound(0, 1)]
Part = Annotated[float, Bound(0, 1, below=True)]  # a share that leaves something
Whole = Annotated[int, Bound(0, 10**9)]
Count = Annotated[int, Bound(1, 10**9)]
Dim = Annotated[int, Bound(1, 65_536)]
Pixels = Annotated[int, Bound(1, 8192, unit="pixels")]
Window = Annotated[int, Bound(1, 10**6)]  # steps of a moving average
Bins = Annotated[int, Bound(1, 10_000)]
Centers = Annotated[int, Bound(1, 1_000)]
Seed = Annotated[int, Bound(0, 2**32 - 1)]


NO: Any = object()
"""In place of a value that there is not."""

TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
NONES = ("null", "none", "~")
UNIONS, LISTS = (Union, UnionType), (list, tuple, Sequence)
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "none"}
WORDS |= dict.fromkeys((dict, Mapping), "a mapping of options to values")


def check(name: str, value: Any, kind: Any) -> Any:
    """The value as its type has it: 1 as 1.0 for a float, a path as text, a list as a tuple; and what text of a file or
    a command line means.

    Args:
        name: of the option, as it is typed; begins the message.
        value: what was given.
        kind: the annotation. What is no plain type (functions, tensors) is taken as it is.

    Raises:
        UserError: the value is not of that type, or out of its bounds.
    """
    made = _read(value, kind)
    if made is not NO:
        return made
    value = _number(value)
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise UserError(f"{name} must be {describe(kind)}, not {shown}{_hint(value, kind)}")


def describe(kind: Any) -> str:
    """A type in words: `a whole number from 1 to 10,000`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = [str(each) for each in args[1:] if isinstance(each, Bound)]
        return (
            f"{describe(args[0])}, {' '.join(bounds)} of them"
            if is_list(args[0])
            else " ".join([describe(args[0]), *bounds])
        )
    if origin in UNIONS:
        return " or ".join(dict.fromkeys(map(describe, sorted(args, key=lambda each: each is NoneType))))
    if origin is Literal:
        return " or ".join(map(repr, args)) if len(args) < 3 else f"one of {', '.join(map(repr, args))}"
    if origin in LISTS:
        fixed = origin is tuple and args[1:] != (...,)
        return f"a list{f' of {len(args)}' if fixed else ''}, each {describe(args[0])}"
    return WORDS.get(origin or kind, getattr(kind, "__name__", str(kind)))


def is_list(kind: Any) -> bool:
    """Whether a type is a list, or may be one."""
    return any(get_origin(each) in LISTS for each in (kind, *get_args(kind)))


@lru_cache(maxsize=512)
def types_of(owner: Any) -> dict[str, Any]:
    """Name to annotation of a function's parameters or a dataclass's fields; of what can't be evaluated, nothing."""
    try:
        return get_type_hints(owner, include_extras=True)
    except Exception:  # annotations of a stranger's function may name anything
        return {k: v for k, v in getattr(owner, "__annotations__", {}).items() if not isinstance(v, str)}


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """What a function takes; nothing where it does not say."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some built-in ones
        return inspect.Signature()


P = ParamSpec("P")
R = TypeVar("R")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with its arguments checked by their annotations at each call.

    Raises:
        UserError: see `check`.
    """
    owner = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    signature = signature_of(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound, kinds = signature.bind(*args, **kwargs), types_of(function)
        for name, value in bound.arguments.items():
            if name in kinds and _is_option(kinds[name]):
                bound.arguments[name] = check(f"{name} of {owner}", value, kinds[name])
        return function(*bound.args, **bound.kwargs)

    return call


def _is_option(kind: Any) -> bool:
    """Whether a type is made of plain ones: what a person types, unlike tensors, labels, functions."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return True
    if origin in (*UNIONS, tuple):
        return all(each is ... or _is_option(each) for each in args)
    return origin is Literal or kind in (bool, int, float, str, NoneType)


def _read(value: Any, kind: Any) -> Any:
    """The value as a type has it, or `NO`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        made = _read(value, args[0])
        size = len(made) if isinstance(made, (list, tuple)) else made
        fits = made is not NO and all(each.holds(size) for each in args[1:] if isinstance(each, Bound))
        return made if fits else NO
    if origin in UNIONS:
        # A value that is of one of the types already stays so, but text is text only where it means nothing else.
        order = sorted(args, key=lambda each: (each is str, type(value) not in (each, *get_args(each)[:1])))
        return next((made for each in order if (made := _read(value, each)) is not NO), NO)
    if origin is Literal:
        return next((choice for meant in _meant(value) for choice in args if meant == choice), NO)
    if origin in LISTS:
        return _list(value, origin, args)
    if kind in (int, float):
        return _finite(_number(value), kind)
    if kind is bool:
        word = TRUTHS.get(value.strip().lower()) if isinstance(value, str) else value
        return bool(word) if _is_truth(word) else NO
    if kind is str:
        return os.fspath(value) if isinstance(value, (str, os.PathLike)) else NO
    if kind in (None, NoneType):
        none = value is None or (isinstance(value, str) and value.strip().lower() in NONES)
        return None if none else NO
    if (origin or kind) in (dict, Mapping):
        value = _from_yaml(value) if isinstance(value, str) else value
        return value if isinstance(value, Mapping) else NO
    is_class = isinstance(kind, type) and kind not in (Any, inspect.Parameter.empty)
    return value if not is_class or isinstance(value, kind) else NO


def _meant(value: Any) -> list[Any]:
    """What a choice may be meant by. YAML reads yes and no as truths, and 32 as a number."""
    if isinstance(value, bool):
        return ["yes", "true", True] if value else ["no", "false", False]
    return [value] if isinstance(value, (str, float)) else [value, str(value)]


def _list(value: Any, origin: Any, kinds: Sequence[Any]) -> Any:
    """`[1, 2]`, or as text: `1,2`."""
    if isinstance(value, str):
        listed = _from_yaml(value)
        value = listed if isinstance(listed, list) else [part.strip() for part in value.split(",")]
    fixed = origin is tuple and kinds[1:] != (...,)
    if not isinstance(value, (list, tuple)) or (fixed and len(value) != len(kinds)):
        return NO
    made = [_read(*each) for each in zip(value, kinds if fixed else repeat(kinds[0]), strict=False)]
    if any(each is NO for each in made):
        return NO
    return made if origin is list else tuple(made)


def _finite(number: Any, kind: Any) -> Any:
    if isinstance(number, numbers.Real) and not _is_truth(number):
        with suppress(ValueError, OverflowError):  # int(nan), int(inf), float(10**400)
            made = kind(number)
            if made == number if kind is int else math.isfinite(made):
                return made
    return NO


def _is_truth(value: Any) -> bool:
    return type(value).__name__ == "bool"  # numpy's, too


def _number(value: Any) -> Any:
    """A text that says a number as that number; anything else as it is."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value) if isinstance(value, str) else value
    return value


def _from_yaml(text: str) -> Any:
    import yaml  # when it is needed

    with suppress(yaml.YAMLError, RecursionError, ValueError):
        return yaml.safe_load(text)


def _hint(value: Any, kind: Any) -> str:
    """What may have been meant: the nearest choice, another unit."""
    args = get_args(kind)
    if get_origin(kind) is Literal and isinstance(value, str):
        near = did_you_mean(value, map(str, args), "", "{!r}")
        return f": {near}" if near else ""
    if get_origin(kind) is Annotated and _read(value, args[0]) is not NO and isinstance(value, numbers.Real):
        return "".join(each.hint(value) for each in args[1:] if isinstance(each, Bound))
    return "".join(_hint(value, each) for each in args) if get_origin(kind) in UNIONS else ""


def _number_in_words(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
