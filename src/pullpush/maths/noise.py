"""Randomness that needs no state."""

import torch
from torch import Tensor

__all__ = ["uniform"]


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
