"""The rectangle computed in blocks of rows: value and gradients equal to the whole, memory of one block."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pullpush.criterion.distributed import all_sum
from pullpush.errors import UserError

__all__ = ["stream"]

Block = Callable[[slice, Sequence[Tensor]], tuple[Tensor, Tensor]]


def stream(block: Block, rows: int, block_rows: int, inputs: Sequence[Tensor], ranks: int = 1) -> Tensor:
    """The value of all rows, one block of rows at a time: the sum over terms of their sum / their weight.

    Sums and weights of the blocks are added up, and so are the gradients of each term's sum, which are divided by the
    term's weight once that is known. The gradient is computed together with the value: each block's graph is gone
    before the next is built, and what the block reads (a memory) may change before `backward`.

    Args:
        block: `block(rows, inputs) -> (sum [terms], weight [terms])` of those rows; differentiable in `inputs` and in
            nothing else.
        rows: number of anchors.
        block_rows: rows of a block.
        inputs: tensors to differentiate in; those that require no gradient are passed through.
        ranks: above 1, sums and weights are added up over so many ranks, and the gradient is that of the own rows
            times `ranks`.

    Raises:
        UserError: from `backward`, where a gradient of the gradient is asked for.
    """
    return _Stream.apply(block, rows, block_rows, ranks, *inputs)  # type: ignore[no-any-return]  # torch's Function.apply gives Any


class _Stream(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: Block, rows: int, block_rows: int, ranks: int, *inputs: Tensor) -> Tensor:
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[4:]) if needed]
        leaves = [x.detach().requires_grad_(i in wanted) for i, x in enumerate(inputs)]
        compute = _at_once if block_rows >= rows else _in_blocks
        with torch.set_grad_enabled(bool(wanted)):
            value, gradients = compute(block, rows, block_rows, ranks, leaves, [leaves[i] for i in wanted])
        ctx.wanted, ctx.inputs = wanted, len(inputs)
        ctx.save_for_backward(*gradients)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            raise UserError(
                "blocks of rows, a memory and compile compute the gradient with the value, so it has no gradient of "
                "its own: give block_rows=None, no memory and compile=False, or leave create_graph=True out"
            )
        out: list[Tensor | None] = [None] * ctx.inputs
        for i, gradient in zip(ctx.wanted, ctx.saved_tensors, strict=True):
            out[i] = upstream[0].to(gradient.dtype) * gradient
        return (None, None, None, None, *out)


def _at_once(
    block: Block, rows: int, block_rows: int, ranks: int, leaves: Sequence[Tensor], wanted: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    totals, counts = block(slice(0, rows), leaves)
    value, weight = _value(totals.detach(), counts, ranks)
    if not totals.requires_grad:
        return value, [torch.zeros_like(x) for x in wanted]
    gradients = torch.autograd.grad((totals * weight).sum(), wanted, allow_unused=True)
    return value, [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, gradients, strict=True)]


def _in_blocks(
    block: Block, rows: int, block_rows: int, ranks: int, leaves: Sequence[Tensor], wanted: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    total, count = torch.zeros(()), torch.zeros(())
    gradients: list[list[Tensor]] = []
    for start in range(0, rows, block_rows):
        totals, counts = block(slice(start, min(start + block_rows, rows)), leaves)
        # Nothing is added to the zeros: they are on the CPU.
        total, count = (total + totals.detach(), count + counts) if start else (totals.detach(), counts)
        if not gradients:
            gradients = [[torch.zeros_like(x) for x in wanted] for _ in totals]
        for term, kept in enumerate(gradients if totals.requires_grad else []):
            parts = torch.autograd.grad(totals[term], wanted, retain_graph=term < len(totals) - 1, allow_unused=True)
            for old, new in zip(kept, parts, strict=True):
                if new is not None:
                    old += new
    value, weight = _value(total, count, ranks)
    for term, kept in zip(weight, gradients, strict=True):
        for gradient in kept:
            gradient *= term.to(gradient.dtype)
    return value, [sum(terms[1:], terms[0]) for terms in zip(*gradients, strict=True)]


def _value(total: Tensor, count: Tensor, ranks: int) -> tuple[Tensor, Tensor]:
    """The value, and what a term's gradient is multiplied by."""
    if ranks > 1:
        total, count = all_sum(torch.stack([total, count.to(total.dtype)])).unbind()
    weight = torch.where(count > 0, 1.0 / torch.where(count > 0, count, 1.0), 0.0).to(total.dtype)
    return (total * weight).sum(), weight * ranks
