"""Learned stand-ins of the classes."""

from typing import Annotated

import torch
from torch import Tensor, nn

from pullpush.bounds import Bound, Centers, Dim, Seed, checked
from pullpush.criterion.columns import Columns

__all__ = ["Proxies"]

Classes = Annotated[int, Bound(1, 10**8)]


class Proxies(nn.Module):
    """One or several learned vectors a class, as columns of the rectangle.

    Args:
        classes: number of training classes; labels are 0 ... classes - 1.
        dim: dimension of the embeddings.
        per_class: vectors a class; the proxies of class c are rows c * per_class ... (c + 1) * per_class - 1.
        seed: of the start, standard normal vectors of length 1.
    """

    ids: Tensor
    labels: Tensor

    @checked
    def __init__(self, classes: Classes, dim: Dim, *, per_class: Centers = 1, seed: Seed = 0) -> None:
        super().__init__()
        start = torch.randn(classes * per_class, dim, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(nn.functional.normalize(start, dim=-1))
        self.register_buffer("labels", torch.arange(classes).repeat_interleave(per_class))
        # Below every id that a Criterion gives out: a proxy is never an item.
        self.register_buffer("ids", torch.iinfo(torch.int64).min + torch.arange(classes * per_class))
        self.per_class = per_class

    def columns(self) -> Columns:
        """All proxies."""
        return Columns(self.weight, self.labels, self.ids)
