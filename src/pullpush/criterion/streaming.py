"""The rectangle computed in blocks of rows: value and gradients equal to the whole, memory of one block."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pullpush.maths.losses import AnchorLoss

__all__ = ["stream"]

Block = Callable[[slice, Sequence[Tensor]], AnchorLoss]


def stream(block: Block, rows: int, block_rows: int, inputs: Sequence[Tensor]) -> Tensor:
    """`value(block(all rows))`, one block of rows at a time.

    Sums and weights of the blocks are added up, and so are the gradients of each term's sum, which are divided by the
    term's weight once that is known. Each block's graph is gone before the next is built.

    Args:
        block: `block(rows, inputs) -> AnchorLoss` of those rows; differentiable in `inputs` and in nothing else.
        rows: number of anchors.
        block_rows: rows of a block.
        inputs: tensors to differentiate in; those that require no gradient are passed through.
    """
    return _Stream.apply(block, rows, block_rows, *inputs)  # type: ignore[no-untyped-call, no-any-return]


class _Stream(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: Block, rows: int, block_rows: int, *inputs: Tensor) -> Tensor:
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        leaves = [x.detach().requires_grad_(i in wanted) for i, x in enumerate(inputs)]
        sums: list[Tensor] = []
        gradients: list[list[Tensor]] = []
        for start in range(0, rows, block_rows):
            with torch.set_grad_enabled(bool(wanted)):
                loss = block(slice(start, min(start + block_rows, rows)), leaves)
                totals = loss.total.sum(0).reshape(-1).unbind()
            counts = loss.count.sum(0).reshape(-1)
            if not sums:
                sums = [torch.zeros_like(counts), torch.zeros_like(counts)]
                gradients = [[torch.zeros_like(inputs[i]) for i in wanted] for _ in totals]
            sums[0] += torch.stack(totals).detach()
            sums[1] += counts
            for term, kept in enumerate(gradients if totals[0].requires_grad else []):
                last = term == len(totals) - 1
                found = torch.autograd.grad(
                    totals[term], [leaves[i] for i in wanted], retain_graph=not last, allow_unused=True
                )
                for keep, new in zip(kept, found, strict=True):
                    if new is not None:
                        keep += new
        total, count = sums
        weight = torch.where(count > 0, 1.0 / torch.where(count > 0, count, 1.0), 0.0)
        ctx.wanted, ctx.inputs = wanted, len(inputs)
        ctx.save_for_backward(
            *(
                sum(w.to(g.dtype) * g for w, g in zip(weight, column, strict=True))
                for column in zip(*gradients, strict=True)
            )
        )
        return (total * weight).sum()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        out: list[Tensor | None] = [None] * ctx.inputs
        for i, gradient in zip(ctx.wanted, ctx.saved_tensors, strict=True):
            out[i] = upstream[0].to(gradient.dtype) * gradient
        return (None, None, None, *out)
