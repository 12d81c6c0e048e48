"""What is done to a ranking after the embeddings are there: `Rerank`, chosen by name, by a mapping or in words.

A run chooses one on its validation classes (`evaluation.chosen`), and its model keeps it; `evaluation.rerank` does it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from pullpush.bounds import Bound, Share, check, types_of
from pullpush.errors import UserError
from pullpush.words import unknown

__all__ = ["Rerank", "rerank_of"]

Few = Annotated[int, Bound(0, 100)]


@dataclass(frozen=True)
class Rerank:
    """Query expansion, database-side augmentation and k-reciprocal re-ranking, each off at 0.

    The values of k are small beside those of the papers: they should not be larger than a class. `pullpush evaluate
    --rerank auto` chooses them on validation classes.

    Args:
        expand: alpha query expansion: neighbours of the query in the gallery that are added to it.
        augment: database-side augmentation: neighbours of each item of the gallery that are added to it.
        alpha: exponent of the cosines by which neighbours are weighted (Radenovic et al. 2018: 3).
        reciprocal: k1 of k-reciprocal re-ranking, the item itself counted (Zhong et al. 2017: 20).
        k2: items whose sets are averaged, the item itself counted (the paper: 6); 0 is 0.3 k1.
        weight: share of the cosine in the re-ranked similarity, lambda (the paper: 0.3).
    """

    expand: Few = 0
    augment: Few = 0
    alpha: Annotated[float, Bound(0, 20)] = 3.0
    reciprocal: Annotated[int, Bound(2, 100, also=(0,))] = 0
    k2: Few = 0
    weight: Share = 0.3

    def __post_init__(self) -> None:
        cls: Any = type(self)
        for name, kind in types_of(cls).items():
            object.__setattr__(self, name, check(f"{name} of rerank", getattr(self, name), kind))
        if self.k2 > self.reciprocal:
            raise UserError(f"k2 of rerank is {self.k2}, more than reciprocal ({self.reciprocal}): give at most that")

    def __bool__(self) -> bool:
        return bool(self.expand or self.augment or self.reciprocal)

    @property
    def averaged(self) -> int:
        """k2, also where it is left open."""
        return self.k2 or max(1, round(0.3 * self.reciprocal))

    @property
    def neighbours(self) -> int:
        """How many it goes by, all in all."""
        return self.expand + self.augment + self.reciprocal

    def __str__(self) -> str:
        """What is on, in the words that `rerank_of` reads."""
        values: dict[str, Any] = {name: getattr(self, name) for name in ("expand", "augment") if getattr(self, name)}
        values |= {"alpha": self.alpha} if values else {}
        if self.reciprocal:
            values |= {"reciprocal": self.reciprocal, "k2": self.averaged, "weight": self.weight}
        return ",".join(f"{name}={value:g}" for name, value in values.items()) or "none"

    def values(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def rerank_of(given: Any) -> Rerank:
    """What a person chose: a `Rerank`, `{"expand": 5}` or `"expand=5,alpha=3"`; nothing for None and `"none"`.

    Raises:
        UserError: an unknown option, with the nearest right one; a value out of its bounds; words that are no options.
    """
    if isinstance(given, Rerank):
        return given
    if given is None or (isinstance(given, str) and given.strip().lower() in ("", "none")):
        return Rerank()
    if isinstance(given, str):
        pairs = [part.partition("=") for part in given.strip("{} ").replace(":", "=").split(",")]
        if not all(equals for _, equals, _ in pairs):
            raise UserError(f"rerank {given!r} is no list of options; write it as expand=5,alpha=3 or reciprocal=10")
        given = {name.strip(): value.strip() for name, _, value in pairs}
    if not isinstance(given, Mapping):
        raise UserError(f"rerank must be a Rerank, a mapping of its options or text such as 'expand=5', not {given!r}")
    known = [each.name for each in fields(Rerank)]
    for name in given:
        if name not in known:
            raise unknown(str(name), known, "pullpush evaluate", " of rerank")
    return Rerank(**given)
