"""Unit vectors: their cosines from other similarities, cosines of other angles, and randomness that needs no state."""

import math

import torch
from torch import Tensor

from pullpush.errors import UserError
from pullpush.maths.reduce import widen

__all__ = ["as_cosine", "cos_of_sum", "uniform"]


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


def uniform(x: Tensor, seed: int) -> Tensor:
    """Numbers in (0, 1), float64, that look random and depend only on the bits of `x` as float32, and on the seed.

    The same rectangle draws the same on any rank, in any order, in blocks and after a resume, and nothing has to be
    saved; the next step's similarities are others, and so are its draws. Equal values draw equally.
    """
    bits = x.float().contiguous().view(torch.int32).long() & 0xFFFFFFFF
    for word in (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF):
        bits = bits ^ word
        # A well-known integer hash: shifts and an odd factor below 2^31, so that no product overflows.
        for _ in range(2):
            bits = ((bits >> 16 ^ bits) * 0x45D9F3B) & 0xFFFFFFFF
        bits = bits >> 16 ^ bits
    return (bits.double() + 0.5) / 2**32
