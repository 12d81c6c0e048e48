"""Several processes as one: columns of all ranks, with gradients that flow back across them.

All ranks bring batches of the same size. Each rank's loss has the value of the joined batch, and the gradient of its
own share times the number of ranks, so that the average over ranks, which DDP takes, is the gradient of the joined
batch.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from pullpush.criterion.columns import Columns
from pullpush.errors import UserError

__all__ = ["all_sum", "check_sizes", "gather", "own_rows", "rank", "shared", "world"]


def world() -> int:
    """Number of ranks; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 without torch.distributed."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(columns: Columns) -> Columns:
    """The columns of all ranks, one after the other; gradients of all ranks are added up for the rank of the column."""
    if world() == 1:
        return columns
    embeddings = _Gather.apply(columns.embeddings)
    labels, ids = _gathered(columns.labels), _gathered(columns.ids)
    return Columns(embeddings, labels, ids, None if columns.valid is None else _gathered(columns.valid))


def shared(x: Tensor) -> Tensor:
    """x, whose gradient is averaged over the ranks: learned options stay equal even outside of DDP."""
    return x if world() == 1 else _Average.apply(x)


def all_sum(x: Tensor) -> Tensor:
    """Sum over ranks, without a gradient."""
    if world() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def own_rows(count: int) -> slice:
    """Where this rank's rows are among the gathered, of which each rank has `count`."""
    return slice(rank() * count, (rank() + 1) * count)


def check_sizes(embeddings: Tensor) -> None:
    """
    Raises:
        UserError: ranks bring batches of different sizes.
    """
    if world() == 1:
        return
    sizes = _gathered(torch.tensor([len(embeddings)], device=embeddings.device)).tolist()
    if len(set(sizes)) > 1:
        raise UserError(f"batches of sizes {sizes} on the ranks: give all ranks the same size, as the samplers do")


def _gathered(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.size = len(x)
        return _gathered(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_sum(gradients[0].contiguous())[own_rows(ctx.size)]


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_sum(gradients[0]) / world()
