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
from dataclasses import dataclass, fields
from functools import lru_cache, wraps
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
    "accepted",
    "check",
    "checked",
    "checked_fields",
    "describe",
    "read",
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
        if not math.isfinite(value):
            return False
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return (low and high) or value in self.also

    def __str__(self) -> str:
        low = f"above {_number(self.low)}" if self.above else f"from {_number(self.low)}"
        high = "and below" if self.above and self.below else "and at most" if self.above else "to"
        high = "to below" if self.below and not self.above else high
        also = "".join(f"{_number(value)} or " for value in self.also)
        return f"{also}{low} {high} {_number(self.high)}{f', in {self.unit}' if self.unit else ''}"

    def hint(self, value: float) -> str:
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


def check(name: str, value: Any, kind: Any) -> Any:
    """The value as its type has it: 1 as 1.0 for a float, a path as text, a list as a tuple.

    Args:
        name: of the option, as it is typed; begins the message.
        value: what was given.
        kind: the annotation. What is no plain type (functions, tensors) is taken as it is.

    Raises:
        UserError: the value is not of that type, or out of its bounds.
    """
    if accepted(value, kind):
        return _converted(value, kind)
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise UserError(f"{name} must be {describe(kind)}, not {shown}{_hint(value, kind)}")


def accepted(value: Any, kind: Any) -> bool:
    """Whether a value is of a type and within its bounds."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any or kind is inspect.Parameter.empty or isinstance(kind, (str, TypeVar)):
        return True
    if origin is Annotated:
        bounds = [each for each in args[1:] if isinstance(each, Bound)]
        return accepted(value, args[0]) and all(each.holds(_size(value)) for each in bounds)
    if origin in (Union, UnionType):
        return any(accepted(value, each) for each in args)
    if origin is Literal:
        return _chosen(value, args) is not None
    if kind in (None, NoneType):
        return value is None
    if kind in (bool, int, float, str):
        return _is_plain(value, kind)
    if origin in (list, tuple, Sequence):
        return _is_sequence(value, origin, args)
    if origin in (dict, Mapping) or kind in (dict, Mapping):
        return isinstance(value, Mapping)
    return isinstance(value, kind) if isinstance(kind, type) else True


def read(text: str, kind: Any) -> Any:
    """Text of a command line or a file as a value of a type; where it is none, the text itself: `check` refuses it."""
    for reading in _readings(text, kind):
        if accepted(reading, kind):
            return reading
    return next(_readings(text, kind), text)


def describe(kind: Any) -> str:
    """A type in words: `a whole number from 1 to 10,000`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = [str(each) for each in args[1:] if isinstance(each, Bound)]
        if get_origin(args[0]) is tuple:
            return f"{describe(args[0])}, {' '.join(bounds)} of them"
        return " ".join([describe(args[0]), *bounds])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(describe(each) for each in args if each not in (None, NoneType))) + (
            " or none" if NoneType in args or None in args else ""
        )
    if origin is Literal:
        return " or ".join(map(repr, args)) if len(args) < 3 else f"one of {', '.join(map(repr, args))}"
    if origin in (list, Sequence) or (origin is tuple and args[1:] == (...,)):
        return f"a list, each {describe(args[0])}"
    if origin is tuple:
        return f"a list of {len(args)}, each {describe(args[0])}"
    if origin in (dict, Mapping) or kind in (dict, Mapping):
        return "a mapping of options to values"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", None: "none"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


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


def checked_fields(values: Any) -> None:
    """Checks the fields of a dataclass in place: its `__post_init__`.

    Raises:
        UserError: see `check`.
    """
    owner: Any = type(values)
    kinds = types_of(owner)
    for name in (field.name for field in fields(owner)):
        setattr(values, name, check(f"{name} of {owner.__name__}", getattr(values, name), kinds[name]))


def _is_option(kind: Any) -> bool:
    """Whether a type is made of plain ones: what a person types, unlike tensors, labels, functions."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return True
    if origin in (Union, UnionType, tuple):
        return all(each is ... or _is_option(each) for each in args)
    return origin is Literal or kind in (bool, int, float, str, NoneType)


def _converted(value: Any, kind: Any) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _converted(value, args[0])
    if origin in (Union, UnionType):
        fitting = [each for each in args if accepted(value, each)]
        return _converted(value, next((each for each in fitting if _bare(each) is type(value)), fitting[0]))
    if origin is Literal:
        return _chosen(value, args)
    if origin is tuple:
        kinds = [args[0]] * len(value) if args[1:] == (...,) else args
        return tuple(_converted(each, one) for each, one in zip(value, kinds, strict=True))
    if kind is str:
        return os.fspath(value)
    return kind(value) if kind in (bool, int, float) else value


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_plain(value: Any, kind: Any) -> bool:
    truth = isinstance(value, bool) or type(value).__name__ == "bool_"  # numpy's
    if kind is bool:
        return truth
    if kind is str:
        return isinstance(value, (str, os.PathLike))
    if truth or not isinstance(value, numbers.Real):
        return False
    try:
        number = float(value)
    except OverflowError:
        return kind is int
    return math.isfinite(number) and (kind is float or number.is_integer())


def _is_sequence(value: Any, origin: Any, args: Sequence[Any]) -> bool:
    if not isinstance(value, (list, tuple)):
        return False
    if origin is tuple and args[1:] != (...,):
        return len(value) == len(args) and all(accepted(*pair) for pair in zip(value, args, strict=True))
    return all(accepted(each, args[0]) for each in value)


def _chosen(value: Any, choices: Sequence[Any]) -> Any:
    """The choice that is meant, or None. YAML reads yes and no as truths, and 32 as a number."""
    for choice in choices:
        same = value == choice and isinstance(value, bool) == isinstance(choice, bool)
        if same or (not isinstance(value, (str, bool, float)) and str(value) == choice):
            return choice
    words = {True: ("yes", "true"), False: ("no", "false")}
    return next((w for w in words[value] if w in choices), None) if isinstance(value, bool) else None


def _size(value: Any) -> float:
    if isinstance(value, (list, tuple)):
        return len(value)
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _readings(text: str, kind: Any) -> Any:
    """What a text may mean, by type; the narrowest first."""
    origin, args = get_origin(kind), get_args(kind)
    word = text.strip().lower()
    if origin is Annotated:
        yield from _readings(text, args[0])
    elif origin in (Union, UnionType):
        for each in sorted(args, key=lambda each: each is str):
            yield from _readings(text, each)
    elif kind in (None, NoneType) and word in ("null", "none", "~"):
        yield None
    elif kind is bool and word in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        yield word in ("true", "yes", "on", "1")
    elif kind in (int, float):
        for one in (int, float):
            try:
                yield one(word.replace("_", ""))
            except ValueError:
                continue
    elif origin in (list, tuple, Sequence, dict, Mapping) or kind in (dict, Mapping):
        yield from _from_yaml(text, args)
    elif origin is Literal or kind is str:
        yield text


def _from_yaml(text: str, args: Sequence[Any]) -> Any:
    """`[1, 2]`, `1,2` or `{a: 1}`."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return
    if isinstance(value, Mapping):
        yield value
    if not isinstance(value, list):
        value = [part.strip() for part in text.split(",")]
    yield [read(each, args[0]) if isinstance(each, str) and args else each for each in value]


def _hint(value: Any, kind: Any) -> str:
    """What may have been meant: the nearest choice, another unit."""
    args = get_args(kind)
    if get_origin(kind) is Literal and isinstance(value, str):
        near = did_you_mean(value, map(str, args), "", "{!r}")
        return f": {near}" if near else ""
    if get_origin(kind) is Annotated and accepted(value, args[0]) and isinstance(value, numbers.Real):
        return "".join(each.hint(_size(value)) for each in args[1:] if isinstance(each, Bound))
    if get_origin(kind) in (Union, UnionType):
        return "".join(_hint(value, each) for each in args)
    return ""


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
