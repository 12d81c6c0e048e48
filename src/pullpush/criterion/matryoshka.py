"""Prefixes of embeddings: the first dimensions, made to be embeddings of their own."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor

from pullpush.bounds import Bound, Dim, check
from pullpush.criterion.columns import Columns
from pullpush.errors import UserError
from pullpush.maths.similarity import normalize

__all__ = ["prefix", "prefixes_of", "shortened"]

Weight = Annotated[float, Bound(0, 1e6, above=True)]


def prefixes_of(given: Sequence[int] | Mapping[int, float]) -> dict[int, float]:
    """Dimensions with their weights, 1 where none are given, the longest prefix first.

    Raises:
        UserError: a prefix of no dimension, the same one twice, a weight that is not above 0.
    """
    dims: Sequence[int] = check("matryoshka", list(given) if isinstance(given, Mapping) else given, Sequence[Dim])
    values = given.values() if isinstance(given, Mapping) else [1.0] * len(dims)
    weights = {
        dim: check(f"weight of the prefix of {dim} dimensions", weight, Weight)
        for dim, weight in zip(dims, values, strict=True)
    }
    if len(weights) < len(dims):
        raise UserError(f"matryoshka={list(dims)}: give each dimension of a prefix once, as (64, 32)")
    return dict(sorted(weights.items(), reverse=True))


def prefix(x: Tensor, dim: int, unit_length: bool) -> Tensor:
    r"""The first `dim` dimensions, at the length of the whole: $\frac{|x|}{|x_{:d}|} x_{:d}$.

    So margins in a distance mean the same in each prefix, and an embedding of length 1 has prefixes of length 1, as
    they are when they are searched. A prefix of zeros stays zero.

    Args:
        x: [n, dim of the whole].
        dim: of the prefix.
        unit_length: the rows of `x` are of length 1.
    """
    short = normalize(x[:, :dim])
    return short if unit_length else short * torch.linalg.vector_norm(x, dim=1, keepdim=True).to(short.dtype)


def shortened(
    anchors: Columns, parts: Sequence[Columns], dim: int, unit_length: bool
) -> tuple[Columns, Sequence[Columns]]:
    """The prefixes of anchors and columns; columns that are the anchors stay the same tensor."""
    short = anchors._replace(embeddings=prefix(anchors.embeddings, dim, unit_length))
    return short, [
        part._replace(
            embeddings=short.embeddings
            if part.embeddings is anchors.embeddings
            else prefix(part.embeddings, dim, unit_length)
        )
        for part in parts
    ]
