"""Reductions under a mask. What an empty row gives is decided here and nowhere else.

All take `x` and a boolean `mask` of a shape that broadcasts with it, and reduce `dim` (the references by default).
Gradients are finite for every mask: what is masked out has gradient zero, and so has an empty row.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "EXPONENT",
    "any_of",
    "cells_of",
    "count_of",
    "eager",
    "largest_exponent",
    "log1p_sum_exp",
    "logsumexp_of",
    "logsumexp_of_two",
    "max_of",
    "mean_of",
    "min_of",
    "sum_of",
    "widen",
]


# Numbers of this size have exponentials of which millions can be added up in float32.
EXPONENT = 64.0


def widen(x: Tensor) -> Tensor:
    """bfloat16 and float16 as float32; wider types as they are. Sums and exponentials need the digits."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def eager(x: Tensor) -> bool:
    """Whether what is done with it is done at once, on a CPU, where its values can be asked for."""
    tracing: bool = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    return x.device.type == "cpu" and not tracing


def any_of(mask: Tensor, dim: int = -1) -> Tensor:
    """True where a row has at least one cell."""
    # bool reductions are slow: eager ones take bytes, compiled ones numbers.
    if torch.compiler.is_compiling():
        return mask.sum(dim, dtype=torch.float32) > 0
    return mask.view(torch.uint8).amax(dim).bool() if mask.shape[dim] else mask.any(dim)


def count_of(mask: Tensor, dim: int = -1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Number of cells of a row, as a float."""
    if torch.compiler.is_compiling():
        return mask.sum(dim, dtype=dtype)
    return mask.view(torch.uint8).sum(dim, dtype=torch.int32).to(dtype)


def sum_of(x: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    """Sum of a row; 0 where it is empty."""
    if not eager(x):
        return torch.where(mask, x, 0.0).sum(dim)
    return _Sum.apply(x, mask, dim)  # type: ignore[no-any-return]  # torch's Function.apply gives Any


class _Sum(torch.autograd.Function):
    """By way of a product: torch's eager `where` takes four times as long on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, dim: int) -> Tensor:
        weight = mask.view(torch.uint8).to(x.dtype)
        ctx.dim, ctx.shape = dim, x.shape
        ctx.save_for_backward(weight)
        total = (x * weight).sum(dim)
        # 0 times infinity: what is masked out shall not be seen.
        return torch.where(mask, x, 0.0).sum(dim) if total.isnan().any() else total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return (gradient.unsqueeze(ctx.dim) * ctx.saved_tensors[0]).sum_to_size(ctx.shape), None, None


def cells_of(mask: Tensor) -> Tensor | None:
    """Numbers of the cells [k] of a mask [rows, columns], counted along the rows, where they are few and can be asked
    for; else None, and a pass over all cells is the better way."""
    if not eager(mask) or mask.numel() % 8 or mask.storage_offset() % 8 or not mask.is_contiguous():
        return None
    # Eight cells at a time: most hold none.
    eights = mask.view(-1).view(torch.int64).nonzero().view(-1)
    if len(eights) * 16 > mask.numel():
        return None
    place, within = mask.view(-1, 8)[eights].nonzero().unbind(1)
    return eights[place] * 8 + within


def mean_of(x: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    """Mean of a row; 0 where it is empty."""
    return sum_of(x, mask, dim) / count_of(mask, dim, x.dtype).clamp(min=1)


def max_of(x: Tensor, mask: Tensor, dim: int = -1, empty: float = float("-inf")) -> Tensor:
    """Largest of a row; `empty` where it is empty."""
    return _extreme(x, mask, dim, empty, largest=True)


def min_of(x: Tensor, mask: Tensor, dim: int = -1, empty: float = float("inf")) -> Tensor:
    """Smallest of a row; `empty` where it is empty."""
    return _extreme(x, mask, dim, empty, largest=False)


def _extreme(x: Tensor, mask: Tensor, dim: int, empty: float, largest: bool) -> Tensor:
    limit = torch.finfo(x.dtype).min if largest else torch.finfo(x.dtype).max
    filled = torch.where(mask, x, limit)
    if not filled.shape[dim]:
        return filled.sum(dim) + empty
    extreme = filled.amax(dim) if largest else filled.amin(dim)
    return torch.where(any_of(mask, dim), extreme, empty)


def largest_exponent(similarity_name: str, *factors: float | Tensor) -> float:
    """The largest size of a factor times the similarity; infinite where that is not known before it is computed."""
    known = similarity_name == "cosine" and not any(isinstance(factor, Tensor) for factor in factors)
    return max(abs(float(factor)) for factor in factors) if known else float("inf")


def logsumexp_of(x: Tensor, mask: Tensor, dim: int = -1, bound: float = float("inf")) -> Tensor:
    r"""$\log \sum_{mask} e^{x}$ of a row; a quarter of the most negative finite number where it is empty.

    Finite, so that `softplus`, `logaddexp`, sums and differences of it keep finite values and gradients. Count only
    rows with cells, or rely on exp(empty) = 0. Compiled, the largest is not searched for where none is above `bound` in
    size and that is small.
    """
    if torch.compiler.is_compiling():
        empty = torch.finfo(x.dtype).min / 4
        filled = torch.where(mask, x, empty)
        return filled.logsumexp(dim) if bound > EXPONENT else _log(filled.exp().sum(dim), empty)
    return _LogSumExp.apply(x, mask, dim)[0]  # type: ignore[no-any-return]  # torch's Function.apply gives Any


def logsumexp_of_two(
    x: Tensor, first: Tensor, y: Tensor, second: Tensor, bound: float = float("inf")
) -> tuple[Tensor, Tensor]:
    """`logsumexp_of` x under one mask and of y under another; no cell is in both. Compiled, one exponential a cell, and
    no search for the largest where none is above `bound` in size and that is small."""
    if not torch.compiler.is_compiling():
        return logsumexp_of(x, first), logsumexp_of(y, second)
    empty = torch.finfo(x.dtype).min / 4
    either = torch.where(first, x, y)
    if bound < EXPONENT:
        tops = [x.new_zeros(x.shape[:-1])] * 2
    else:
        # Taken out for the digits' sake alone: the value, and so the gradient, do not depend on it.
        tops = [torch.where(mask, of, empty).amax(-1).detach() for of, mask in ((x, first), (y, second))]
        either = either - torch.where(first, tops[0][..., None], tops[1][..., None])
    e = torch.where(first | second, either, empty).exp()
    logs = []
    for top, shares in zip(tops, (torch.where(first, e, 0.0), torch.where(first, 0.0, e)), strict=True):
        logs.append(_log(shares.sum(-1), empty, top))
    return logs[0], logs[1]


def _log(x: Tensor, empty: float, more: Tensor | float = 0.0) -> Tensor:
    """`more` and the logarithm; of 0, `empty`."""
    some = x != 0  # a NaN too
    return torch.where(some, more + torch.where(some, x, 1.0).log(), empty)


class _LogSumExp(torch.autograd.Function):
    """By way of the softmax, which is the gradient too; torch's `exp` is a hundred times slower where it underflows.

    The softmax is an output as well, and so has a gradient of its own: that of the gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        empty = torch.finfo(x.dtype).min / 4
        filled = torch.where(mask, x, empty)
        if not filled.shape[dim]:
            ctx.shape = x.shape
            return filled.sum(dim) + empty, filled
        top = filled.amax(dim, keepdim=True)
        share = filled.softmax(dim)
        value = top - share.amax(dim, keepdim=True).log()
        ctx.dim, ctx.shape = dim, x.shape
        ctx.save_for_backward(share, top != empty)
        return value.squeeze(dim), share

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, of_share: Tensor | None) -> tuple[Tensor | None, None, None]:
        if not ctx.saved_tensors:
            return None if gradient is None else gradient.new_zeros(ctx.shape), None, None
        share, any_cell = ctx.saved_tensors
        slope = None if gradient is None else gradient.unsqueeze(ctx.dim)
        if of_share is not None:
            rest = of_share - (of_share * share).sum(ctx.dim, keepdim=True)
            slope = rest if slope is None else slope + rest
        if slope is None:
            return None, None, None
        # An empty row has a share of its masked cells.
        return (torch.where(any_cell, slope, 0.0) * share).sum_to_size(ctx.shape), None, None


def log1p_sum_exp(x: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    r"""$\log(1 + \sum_{mask} e^{x})$ of a row; 0 where it is empty."""
    return torch.nn.functional.softplus(logsumexp_of(x, mask, dim))
