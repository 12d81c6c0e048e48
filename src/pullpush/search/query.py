"""What is asked of an index: parts that are mixed into one embedding, and what narrows its hits down."""

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from pullpush.encoders.decision import Decision
from pullpush.encoders.rerank import Rerank, rerank_of
from pullpush.names import did_you_mean
from pullpush.search.errors import BadQuery

__all__ = ["MOST", "ImageLike", "SearchQuery", "asked_rerank", "check", "listed", "mix"]

WEIGHTS = {"text": 1.0, "image": 1.0, "like": 1.0, "minus": 0.5}
"""Default weights of the parts of a query."""
MOST = 1_000
"""Hits of a query, at most."""

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True, kw_only=True)
class SearchQuery:
    """What is asked for, as for `Engine.query`; `images` may be whatever those who embed them take, and no `rerank` is
    what the model has chosen."""

    texts: Sequence[str] = ()
    images: Sequence[Any] = ()
    like: Sequence[int] = ()
    minus_texts: Sequence[str] = ()
    minus_ids: Sequence[int] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    k: int = 10
    where: Mapping[str, str] = field(default_factory=dict)
    cut_off: float | None = None
    min_probability: float | None = None
    rerank: Rerank | None = field(default_factory=Rerank)

    @property
    def excluded(self) -> list[int]:
        """Items that are not among the hits."""
        return [*self.like, *self.minus_ids]

    @property
    def only_texts(self) -> bool:
        """Whether it is looked for by texts alone."""
        return bool(len(self.texts)) and not len(self.images) and not len(self.like)

    @property
    def of_one_class(self) -> bool:
        """Whether a hit can be of the query's class: it is made of images and items, moved away from nothing."""
        return not (len(self.texts) or len(self.minus_texts) or len(self.minus_ids))


def asked_rerank(given: Any) -> Rerank | None:
    """What somebody asked for, as of `rerank_of`; None for `auto`, which is what the model has chosen.

    Raises:
        UserError: as of `rerank_of`.
    """
    return None if isinstance(given, str) and given.strip().lower() == "auto" else rerank_of(given)


def check(query: SearchQuery, values: Mapping[str, Collection[str]], decision: Decision | None) -> None:
    """Raises `BadQuery` for what cannot be asked for.

    Args:
        query: what is asked for.
        values: of each column by which items can be narrowed down, those that there are.
        decision: of the model, if any.
    """
    if not 1 <= query.k <= MOST:
        raise BadQuery(f"k is {query.k}; it can be 1 to {MOST}")
    _check_where(query.where, values)
    if query.min_probability is not None:
        _check_probability(query, query.min_probability, decision)


def mix(parts: Mapping[str, np.ndarray], weights: Mapping[str, float] | None = None) -> np.ndarray:
    """sum_part weight_part mean(part) (minus: subtracted), of length 1.

    Args:
        parts: by name, those of `WEIGHTS`, each `[n, dim]`, where n may be 0.
        weights: by name; those of `WEIGHTS` where none is given.

    Returns:
        float32 `[dim]`.

    Raises:
        BadQuery: an empty query, an unknown part or a sum of zero.
    """
    unknown = set(weights or {}) - set(WEIGHTS)
    if unknown:
        raise BadQuery(f"there is no part {sorted(unknown)[0]!r} to give a weight; the parts are {', '.join(WEIGHTS)}")
    weights = {**WEIGHTS, **(weights or {})}
    if not any(len(part) for name, part in parts.items() if name != "minus"):
        raise BadQuery("the query is empty; give a text, an image or an item to be like")
    total = sum(
        (-w if n == "minus" else w) / len(parts[n]) * parts[n].sum(axis=0)
        for n, w in weights.items()
        if len(parts.get(n, ()))
    )
    length = math.sqrt(total @ total)
    if not math.isfinite(length) or length < 1e-6:
        raise BadQuery("the parts of the query cancel each other out; change their weights")
    return np.asarray(total / length, np.float32)


def listed(value: Any) -> list[Any]:
    """One or several, or None, as a list; an array of one dimension is several ids, of four several images."""
    if value is None:
        return []
    several = value.ndim in (1, 4) if isinstance(value, np.ndarray) else isinstance(value, Iterable)
    return list(value) if several and not isinstance(value, str | os.PathLike | Image.Image) else [value]


def _check_where(where: Mapping[str, str], values: Mapping[str, Collection[str]]) -> None:
    for column, value in where.items():
        if column not in values:
            raise BadQuery(f"items cannot be narrowed by {column!r}; by {', '.join(values)}")
        if value not in values[column]:
            known = [str(each) for each in values[column] if each]
            hint = did_you_mean(value, known, f"it can be {', '.join(known[:8])}", "{!r}")
            hint = hint if known else f"no item of this index has a {column}"
            raise BadQuery(f"no item has the {column} {value!r}; {hint}")


def _check_probability(query: SearchQuery, least: float, decision: Decision | None) -> None:
    if not 0 <= least <= 1:
        raise BadQuery(f"the least probability is {least:g}; it can be 0 to 1")
    if not query.of_one_class:
        raise BadQuery(
            "a probability is that two images are of one class; a query with words, or with something to move away "
            "from, has none: use the cut-off"
        )
    if decision is None:
        raise BadQuery(
            "the model of this index has no decision, which tells probabilities: train it again with validation "
            "classes, build an index of all its dimensions where this one has fewer (--dim), or use the cut-off"
        )
