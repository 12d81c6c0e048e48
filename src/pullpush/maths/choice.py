"""Pure functions whose options are chosen first: `circle(margin=0.4)` is called with a rectangle later.

@loss(similarity="dot")
def n_pair(rectangle: Rectangle, *, temperature: Positive = 0.1) -> AnchorLoss: ...

chosen = n_pair(temperature=0.07)  # checked here; prints itself; equal to another with the same options
chosen(rectangle)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from torch import Tensor

from pullpush.bounds import check, signature_of
from pullpush.errors import UserError
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.names import did_you_mean, look_up
from pullpush.signatures import REQUIRED, Option, of

__all__ = ["Choice", "Loss", "Miner", "Traits", "chosen", "loss", "miner", "regularizer", "relation"]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


@dataclass(frozen=True)
class Traits:
    """What a function says of itself to whoever calls it.

    Attributes:
        similarity: name of the similarity that the loss's paper measures with; used unless another is asked for.
        whole: it is not a sum over anchors, so that it can't be streamed; or tells from the options whether it is.
        learned: options that are learned with the encoder; their defaults are the starting points.
        proxies: the columns are class proxies.
        unit_length: holds for unit vectors only, whatever the similarity: the criterion normalises.
        wants_references: reads the rectangle's `reference_similarity`; the name of an option, where only of references
            beside each other, so many at a time.
    """

    similarity: str = "cosine"
    whole: bool | Callable[[Mapping[str, Any]], bool] = False
    learned: tuple[str, ...] = ()
    proxies: bool = False
    unit_length: bool = False
    wants_references: bool | str = False


class Choice(Generic[R]):
    """A pure function with its options, each checked. It can't be changed; `replace` makes another.

    Two are equal, and have one hash, when the functions are the same and all options are equal.

    Args:
        function: takes what its kind takes, and its options by name.
        options: those that differ from the defaults, or may.
        kind: "loss", "miner", "relation" or "regularizer".
        traits: of the function.
        factory: the public function that made it, by which it is pickled.

    Raises:
        UserError: the function has no such option; a value that the option does not take.
    """

    __slots__ = ("_factory", "_kind", "function", "given", "options", "traits")

    function: Callable[..., R]
    given: Mapping[str, Any]
    options: Mapping[str, Any]
    traits: Traits
    _kind: str
    _factory: "Callable[..., Choice[R]] | None"

    def __init__(
        self,
        function: Callable[..., R],
        options: Mapping[str, Any],
        kind: str,
        traits: Traits = Traits(),
        factory: "Callable[..., Choice[R]] | None" = None,
    ) -> None:
        known = of(function).own()
        given = _checked(f"{kind} {_name(function)!r}", known, options)
        values = {name: option.default for name, option in known.items() if option.default is not REQUIRED} | given
        attributes = {"function": function, "given": given, "options": values, "traits": traits}
        for name, value in {**attributes, "_kind": kind, "_factory": factory}.items():
            object.__setattr__(self, name, value)

    def __call__(self, *args: Any, **learned: Any) -> R:
        """Calls the function with its options; `learned` are tensors that stand in for some of them."""
        return self.function(*args, **{**self.options, **learned})

    @property
    def name(self) -> str:
        """Of the function."""
        return _name(self.function)

    @property
    def whole(self) -> bool:
        """Whether it needs all anchors at once, with these options."""
        whole = self.traits.whole
        return bool(self.traits.wants_references) or (whole(self.options) if callable(whole) else whole)

    def named(self) -> dict[str, Any]:
        """As a mapping of plain values, in the form that a file or a command line gives."""
        return {"name": self.name, **self.options}

    def made_by(self, *factories: Callable[..., Any]) -> bool:
        """Whether it is, say, some `circle`; or any of several."""
        return self._factory in factories

    def replace(self, **options: Any) -> "Choice[R]":
        """The same function with other options.

        Raises:
            UserError: as when it was made.
        """
        return Choice(self.function, {**self.given, **options}, self._kind, self.traits, self._factory)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self!r} can't be changed: .replace({name}=...) makes another")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Choice):
            return NotImplemented
        return self.function is other.function and self.options == other.options

    def __hash__(self) -> int:
        return hash((self.function, tuple(self.options.items())))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._factory is not None:
            return partial(self._factory, **self.given), ()
        return Choice, (self.function, dict(self.given), self._kind, self.traits)


Loss = Choice[AnchorLoss]
Miner = Choice[Pairs]


def loss(
    *,
    similarity: str = "cosine",
    whole: bool | Callable[[Mapping[str, Any]], bool] = False,
    learned: tuple[str, ...] = (),
    proxies: bool = False,
    unit_length: bool = False,
    wants_references: bool | str = False,
) -> Callable[[Callable[Concatenate[Rectangle, P], AnchorLoss]], Callable[P, Loss]]:
    """Decorator of a loss, a pure function of the rectangle: its options are chosen first. See `Traits`."""
    return _decorator("loss", Traits(similarity, whole, learned, proxies, unit_length, wants_references))


def miner(
    *,
    whole: bool | Callable[[Mapping[str, Any]], bool] = False,
    unit_length: bool = False,
    wants_references: bool = False,
) -> Callable[[Callable[Concatenate[Rectangle, P], Pairs]], Callable[P, Miner]]:
    """Decorator of a miner, a pure function of the rectangle: its options are chosen first. See `Traits`."""
    return _decorator("miner", Traits(whole=whole, unit_length=unit_length, wants_references=wants_references))


def relation(
    function: Callable[Concatenate[Tensor, Tensor, P], Tensor | Pairs],
) -> Callable[P, Choice[Tensor | Pairs]]:
    """Decorator of a relation, a pure function of two sets of labels: its options are chosen first."""
    return _decorator("relation", Traits())(function)


def regularizer(
    *, whole: bool = False
) -> Callable[[Callable[Concatenate[Tensor, Tensor, Pairs, P], AnchorLoss]], Callable[P, Choice[AnchorLoss]]]:
    """Decorator of a regulariser, a pure function of the embeddings: its options are chosen first. See `Traits`."""
    return _decorator("regularizer", Traits(whole=whole))


def _decorator(kind: str, traits: Traits) -> Callable[[Callable[..., Any]], Callable[..., Choice[Any]]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Choice[Any]]:
        @wraps(function)
        def factory(**options: Any) -> Choice[Any]:
            return Choice(function, options, kind, traits, factory)

        taken = signature_of(function)
        own = [each for each in taken.parameters.values() if each.kind is each.KEYWORD_ONLY]
        factory.__dict__.update(kind=kind, __signature__=taken.replace(parameters=own, return_annotation=Choice))
        return factory

    return decorate


# What each kind is called with, before its options.
TAKES = {
    "loss": ("rectangle",),
    "miner": ("rectangle",),
    "relation": ("labels", "reference_labels"),
    "regularizer": ("embeddings", "references", "pairs"),
}


def chosen(
    kind: str, what: Any, known: Mapping[str, Callable[..., Choice[Any]]], options: Mapping[str, Any] | None = None
) -> Choice[Any]:
    """What a person chose, in any of its forms, as a `Choice`.

    Args:
        kind: "loss", "miner", "relation" or "regularizer".
        what: `losses.circle(margin=0.4)`, `losses.circle`, "circle", {"name": "circle", "margin": 0.4}, or any function
            of that form.
        known: name to public function.
        options: further options.

    Raises:
        UserError: an unknown name or option, with the nearest right one; a mapping without a name; a value that the
            option does not take; a function that is not of that form.
    """
    more = dict(options or {})
    if isinstance(what, Mapping):
        if "name" not in what:
            raise UserError(f"{kind} {dict(what)} needs a name: {{'name': ..., ...}}")
        what, more = what["name"], {**{k: v for k, v in what.items() if k != "name"}, **more}
    if isinstance(what, str):
        what = look_up(kind, what, known)
    if isinstance(what, Choice):
        if what._kind != kind:
            raise UserError(f"{what!r} is a {what._kind}, not a {kind}")
        return what.replace(**more) if more else what
    of_kind = getattr(what.func if isinstance(what, partial) else what, "kind", None)
    if of_kind in TAKES:
        if of_kind != kind:
            raise UserError(f"{_name(what)!r} is a {of_kind}, not a {kind}")
        made: Choice[Any] = what(**more)
        return made
    if not callable(what):
        raise UserError(
            f"{kind} must be a name, a mapping with a name, or a function or object of that kind, not {what!r}"
        )
    return _own(kind, what, more)


def _own(kind: str, function: Callable[..., Any], options: Mapping[str, Any]) -> Choice[Any]:
    """A function of a person's own."""
    first = [name for name, option in of(function).options.items() if not option.by_name and option.default is REQUIRED]
    takes = TAKES[kind]
    if first and len(first) != len(takes):
        raise UserError(
            f"a {kind} is called with {', '.join(takes)} and its options by name, but {_name(function)} takes "
            f"{', '.join(first)}: def {_name(function)}({', '.join(takes)}, *, ...)"
        )
    return Choice(function, options, kind)


def _name(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _checked(owner: str, known: Mapping[str, Option], options: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known, f"it has: {', '.join(known) or 'none'}", "{!r}")
            raise UserError(f"{owner} has no option {name!r}: {hint}")
    return {k: check(f"{k} of {owner}", value, known[k].annotation) for k, value in options.items()}
