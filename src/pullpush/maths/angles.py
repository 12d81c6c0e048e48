"""Angles between unit vectors: their cosines from other similarities, and the cosine of a sum."""

import math

import torch
from torch import Tensor

from pullpush.errors import UserError
from pullpush.maths.reduce import widen

__all__ = ["as_cosine", "cos_of_sum"]


def as_cosine(similarity: Tensor, name: str) -> Tensor:
    r"""The cosine of unit vectors from another of their similarities: $|x - y|^2 = 2 - 2 \cos$.

    Args:
        similarity: any shape.
        name: which similarity it is: "cosine", "dot", "negative_euclidean", "negative_squared_euclidean".

    Raises:
        UserError: another name.
    """
    s = widen(similarity)
    if name in ("cosine", "dot"):
        return s
    if name == "negative_squared_euclidean":
        return 1 + s / 2
    if name == "negative_euclidean":
        return 1 - s * s / 2
    raise UserError(f"similarity {name!r} tells no angle: take cosine or a Euclidean distance for this miner")


def cos_of_sum(s: Tensor, angle: float) -> Tensor:
    """cos(arccos(s) + angle); its gradient at |s| = 1, infinite, is that of s * cos(angle)."""
    square = 1 - s.square()
    inside = square > torch.finfo(s.dtype).eps
    sine = torch.where(inside, torch.where(inside, square, 1.0).sqrt(), 0.0)
    return s * math.cos(angle) - sine * math.sin(angle)
