"""Triples in which the positive is compared with the negative too: they need the references' own similarities.

As in `triples`, one positive of every row at a time, and operators that a compiler takes whole. Nothing is kept for the
gradient but the inputs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pullpush.maths.reduce import widen
from pullpush.maths.triples import places_of

__all__ = ["angles_above", "angular_sum", "swapped_violations"]


def swapped_violations(
    similarity: Tensor, reference_similarity: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    r"""Sum and number of the triples with $m + \max(s_{in}, r_{pn}) - s_{ip} > 0$, both [anchors]."""
    total, number = _through(widen(similarity), widen(reference_similarity), positive, negative, margin, True)
    return total, number


def angular_sum(
    similarity: Tensor, reference_similarity: Tensor, positive: Tensor, negative: Tensor, tangent: float
) -> Tensor:
    r"""$\sum_p \log(1 + \sum_n e^{4 t (s_{in} + r_{pn}) - 2 (1 + t) s_{ip}})$ with the squared tangent t, [anchors]."""
    total: Tensor = _through(widen(similarity), widen(reference_similarity), positive, negative, tangent, False)[0]
    return total


def angles_above(
    similarity: Tensor, reference_similarity: Tensor, positive: Tensor, negative: Tensor, tangent: float
) -> tuple[Tensor, Tensor]:
    r"""Positives and negatives of triples of unit vectors with $|x_i - x_p|^2 > 4 t |x_n - (x_i + x_p) / 2|^2$."""
    s, r = widen(similarity).detach(), widen(reference_similarity).detach()
    kept, others = _angles(s, r, positive, negative, tangent)
    return kept, others


def _gaps(s: Tensor, r: Tensor, t: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Of one positive a row, whose row is r and whose similarity is t: the violation by each negative."""
    return torch.where(negative, torch.maximum(s, r) + (margin - t), 0.0).clamp_(min=0)


def _logits(s: Tensor, r: Tensor, t: Tensor, negative: Tensor, tangent: float) -> Tensor:
    return (s + r).mul_(4 * tangent).sub_(2 * (1 + tangent) * t).masked_fill_(~negative, float("-inf"))


@torch.library.custom_op("pullpush::through", mutates_args=())
def _through(
    s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, parameter: float, swap: bool
) -> tuple[Tensor, Tensor]:
    columns, valid = places_of(positive)
    total, number = s.new_zeros(len(s), 1), s.new_zeros(len(s), 1)
    for i in range(columns.shape[1]):
        column, real = columns[:, i : i + 1], valid[:, i : i + 1]
        cells = (_gaps if swap else _logits)(s, r[column[:, 0]], s.gather(1, column), negative, parameter)
        if swap:
            number += torch.where(real, (cells > 0).sum(1, keepdim=True, dtype=s.dtype), 0.0)
        each = cells.sum(1, keepdim=True) if swap else softplus(cells.logsumexp(1, keepdim=True))
        total += torch.where(real, each, 0.0)
    return total[:, 0], number[:, 0]


@_through.register_fake
def _(s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, parameter: float, swap: bool) -> tuple[Tensor, Tensor]:
    return s.new_empty(s.shape[0]), s.new_empty(s.shape[0])


@torch.library.custom_op("pullpush::through_backward", mutates_args=())
def _through_backward(
    gradient: Tensor, s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, parameter: float, swap: bool
) -> tuple[Tensor, Tensor]:
    columns, valid = places_of(positive)
    ds, dr = torch.zeros_like(s), torch.zeros_like(r)
    for i in range(columns.shape[1]):
        column, real = columns[:, i : i + 1], valid[:, i : i + 1]
        row, upstream = r[column[:, 0]], torch.where(real, gradient[:, None], 0.0)
        cells = (_gaps if swap else _logits)(s, row, s.gather(1, column), negative, parameter)
        if swap:
            slope = (cells > 0) * upstream
            through = slope * (s < row)
            ds += slope - through
            ds.scatter_add_(1, column, -slope.sum(1, keepdim=True))
        else:
            share = cells.sub_(softplus(cells.logsumexp(1, keepdim=True))).exp_().mul_(upstream)
            through = share * (4 * parameter)
            ds += through
            ds.scatter_add_(1, column, share.sum(1, keepdim=True) * (-2 * (1 + parameter)))
        dr.index_add_(0, column[:, 0], through)
    return ds, dr


@_through_backward.register_fake
def _(
    gradient: Tensor, s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, parameter: float, swap: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(s), torch.empty_like(r)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.parameter, ctx.swap = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor, of_number: Tensor) -> tuple[Tensor | None, ...]:
    ds, dr = _through_backward(gradient.contiguous(), *ctx.saved_tensors, ctx.parameter, ctx.swap)
    return ds, dr, None, None, None, None


_through.register_autograd(_backward, setup_context=_setup)


@torch.library.custom_op("pullpush::angles", mutates_args=())
def _angles(s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, tangent: float) -> tuple[Tensor, Tensor]:
    columns, valid = places_of(positive)
    kept, others = torch.zeros_like(positive), torch.zeros_like(negative)
    for i in range(columns.shape[1]):
        column, real = columns[:, i : i + 1], valid[:, i : i + 1]
        t = s.gather(1, column)
        to_centre = 1.5 + t / 2 - s - r[column[:, 0]]
        large = ~(2 - 2 * t <= 4 * tangent * to_centre) & negative & real
        others |= large
        kept.scatter_(1, column, kept.gather(1, column) | large.any(1, keepdim=True))
    return kept, others


@_angles.register_fake
def _(s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, tangent: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(positive), torch.empty_like(negative)
