"""Heads: from the features of a backbone to the embedding space."""

from collections import OrderedDict
from typing import Literal

from torch import nn

from pullpush.bounds import Dim, Part, checked

__all__ = ["Head", "make_head"]

Head = Literal["linear", "mlp", "none"]


@checked
def make_head(head: Head, width: int, dim: Dim, *, hidden: Dim = 512, dropout: Part = 0.0) -> nn.Module:
    """A module `[n, width] -> [n, dim]`.

    - `linear`: one affine map, its rows orthonormal at the start, so that it begins as a projection that keeps angles.
    - `mlp`: `width -> hidden -> dim` with a GELU between, and with `dropout` before both layers in training.
    - `none`: the features themselves; `dim` is not read.

    Raises:
        UserError: another name, or sizes out of their bounds.
    """
    if head == "none":
        return nn.Identity()
    if head == "mlp":
        layers: list[tuple[str, nn.Module]]
        layers = [("0", nn.Linear(width, hidden)), ("1", nn.GELU()), ("2", nn.Linear(hidden, dim))]
        if dropout:  # named aside, so that a head's weights have the same names with and without it
            layers.insert(2, ("drop_hidden", nn.Dropout(dropout)))
            layers.insert(0, ("drop", nn.Dropout(dropout)))
        return nn.Sequential(OrderedDict(layers))
    linear = nn.Linear(width, dim)
    nn.init.orthogonal_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
