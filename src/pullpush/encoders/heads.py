"""Heads: from the features of a backbone to the embedding space."""

from __future__ import annotations

from torch import nn

from pullpush.errors import UserError

HEADS = ("linear", "mlp", "none")


def make_head(head: str, width: int, dim: int, *, hidden: int = 512) -> nn.Module:
    """A module `[n, width] -> [n, dim]`.

    - `linear`: one affine map, its rows orthonormal at the start, so that it begins as a projection that keeps angles.
    - `mlp`: `width -> hidden -> dim` with a GELU between.
    - `none`: the features themselves; `dim` is not read.

    Raises: `UserError` for another name, or `dim` below 1.
    """
    if head not in HEADS:
        raise UserError(f"Unknown head '{head}'. Choose one of: {', '.join(HEADS)}.")
    if dim < 1:
        raise UserError(f"The embedding needs at least one dimension, dim is {dim}.")
    if head == "none":
        return nn.Identity()
    if head == "mlp":
        return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dim))
    linear = nn.Linear(width, dim)
    nn.init.orthogonal_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
