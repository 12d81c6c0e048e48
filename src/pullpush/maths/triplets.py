"""Sums over (anchor, positive, other) without a list of triplets: never more than [anchors, references] at a time.

Each positive is compared with its whole row, one positive of every row at a time, or, where there are many, all of them
are sorted once. How many there are is read from the data, which a compiler can't follow: hence operators that it takes
whole. Triplets in which the positive is compared with the negative too need the references' own similarities.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pullpush.maths.reduce import widen

__all__ = ["above", "angles_above", "angular_sum", "swapped_violations", "violations"]

# Positives a row up to which comparing each with the row is faster than a search among them.
FEW = 8


def _places_of(positive: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of each row's positives, [anchors, most positives of a row], and True where there is one."""
    top = positive.byte().topk(_most(positive))
    return top.indices, top.values.bool()


def violations(similarity: Tensor, positive: Tensor, negative: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Triplets with $m + s_{in} - s_{ip} > 0$, and their sum.

    The hinge is linear in the similarities: each negative counts as often as it violates, each positive, with a minus,
    as often as it is violated. So one count, which needs no gradient, gives the exact sum and the exact gradient.

    Returns:
        sum of the violations [anchors], their number [anchors], number of triplets [anchors].
    """
    s, compiling = widen(similarity), torch.compiler.is_compiling()
    with torch.no_grad():
        count = _count if compiling else _count_violations
        weight = count(s.detach(), positive, negative, margin)
        number = weight.clamp(min=0).sum(1)  # those of the negatives; the positives' are not above 0
        listed = positive.sum(1, dtype=s.dtype) * negative.sum(1, dtype=s.dtype)
    # An accelerator would be waited for; a compiler can't follow.
    total = (weight * s).sum(1) if s.device.type == "cpu" and not compiling else None
    if total is None or total.isnan().any():  # 0 times infinity: what is masked out shall not be seen
        total = (weight * torch.where(positive | negative, s, 0.0)).sum(1)
    return total + margin * number, number, listed


def above(similarity: Tensor, positive: Tensor, others: Tensor, temperature: float, kind: str = "sigmoid") -> Tensor:
    r"""How far the others lie above each positive: $\sum_{j \in others} f\big((s_{ij} - s_{ip}) / \tau\big)$.

    Args:
        similarity, positive, others: [anchors, references].
        temperature: tau.
        kind: f, "sigmoid" (a smooth count) or "softplus".

    Returns:
        [anchors, references], 0 where there is no positive. Keeps nothing for the gradient but its inputs.
    """
    result: Tensor = _above(widen(similarity), positive, others, temperature, kind == "softplus")
    return result


def _most(positive: Tensor) -> int:
    """Most positives of a row. Waits for the device."""
    return max(1, int(positive.sum(1).max())) if positive.numel() else 0


def _count_violations(s: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Signed number of violations of each cell, [anchors, references]."""
    if not s.numel():
        return torch.zeros_like(s)
    inf = float("inf")
    # On an accelerator a full sort costs less than waiting for the number.
    k = _most(positive) if s.device.type == "cpu" else s.shape[1]
    hardest = torch.where(positive, s, inf).topk(k, largest=False)
    raised = torch.where(negative, s + margin, -inf)
    if k <= FEW:
        weight = torch.zeros_like(s)
        violated = torch.empty_like(hardest.values)
        worse = torch.empty_like(s)
        for i, threshold in enumerate(hardest.values.unbind(1)):
            torch.gt(raised, threshold[:, None], out=worse)
            weight += worse
            violated[:, i] = worse.sum(1)
    else:
        places = torch.searchsorted(hardest.values, raised)
        weight = places.to(s.dtype)
        per_place = torch.zeros(len(s), k + 1, dtype=s.dtype, device=s.device)
        per_place.scatter_add_(1, places, torch.ones_like(s))
        violated = s.shape[1] - per_place[:, :k].cumsum(1)
    # A row with fewer positives is filled with cells that no negative violates: they add 0.
    return weight.scatter_add_(1, hardest.indices, -violated)


@torch.library.custom_op("pullpush::count_violations", mutates_args=())
def _count(s: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    return _count_violations(s, positive, negative, margin)


@_count.register_fake
def _(s: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    return torch.empty_like(s)


@torch.library.custom_op("pullpush::above", mutates_args=())
def _above(s: Tensor, positive: Tensor, others: Tensor, temperature: float, softplus: bool) -> Tensor:
    f = torch.nn.functional.softplus if softplus else torch.sigmoid
    columns, valid = _places_of(positive)
    # Sigmoid, its slope and softplus are 0 there: no mask is needed for each positive.
    compared = torch.where(others, s, float("-inf"))
    result = torch.zeros_like(s)
    for i in range(columns.shape[1]):
        column, real = columns[:, i : i + 1], valid[:, i : i + 1]
        total = f((compared - s.gather(1, column)).div_(temperature)).sum(1, keepdim=True)
        result.scatter_add_(1, column, torch.where(real, total, 0.0))
    return result


@_above.register_fake
def _(s: Tensor, positive: Tensor, others: Tensor, temperature: float, softplus: bool) -> Tensor:
    return torch.empty_like(s)


@torch.library.custom_op("pullpush::above_backward", mutates_args=())
def _above_backward(
    gradient: Tensor, s: Tensor, positive: Tensor, others: Tensor, temperature: float, softplus: bool
) -> Tensor:
    columns, valid = _places_of(positive)
    compared = torch.where(others, s, float("-inf"))
    result = torch.zeros_like(s)
    for i in range(columns.shape[1]):
        column, real = columns[:, i : i + 1], valid[:, i : i + 1]
        slope = (compared - s.gather(1, column)).div_(temperature).sigmoid_()
        if not softplus:
            slope.addcmul_(slope, slope, value=-1)
        slope.mul_(torch.where(real, gradient.gather(1, column), 0.0) / temperature)
        result += slope
        result.scatter_add_(1, column, -slope.sum(1, keepdim=True))
    return result


@_above_backward.register_fake
def _(gradient: Tensor, s: Tensor, positive: Tensor, others: Tensor, temperature: float, softplus: bool) -> Tensor:
    return torch.empty_like(s)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    s, positive, others, ctx.temperature, ctx.softplus = inputs
    ctx.save_for_backward(s, positive, others)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    s, positive, others = ctx.saved_tensors
    return _above_backward(gradient, s, positive, others, ctx.temperature, ctx.softplus), None, None, None, None


_above.register_autograd(_backward, setup_context=_setup)


def swapped_violations(
    similarity: Tensor, reference_similarity: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    r"""Sum and number of the triplets with $m + \max(s_{in}, r_{pn}) - s_{ip} > 0$, both [anchors]."""
    total, number = _with_references(widen(similarity), widen(reference_similarity), positive, negative, margin, True)
    return total, number


def angular_sum(
    similarity: Tensor, reference_similarity: Tensor, positive: Tensor, negative: Tensor, tangent: float
) -> Tensor:
    r"""$\sum_p \log(1 + \sum_n e^{4 t (s_{in} + r_{pn}) - 2 (1 + t) s_{ip}})$ with the squared tangent t, [anchors]."""
    total: Tensor = _with_references(
        widen(similarity), widen(reference_similarity), positive, negative, tangent, False
    )[0]
    return total


def angles_above(
    similarity: Tensor, reference_similarity: Tensor, positive: Tensor, negative: Tensor, tangent: float
) -> tuple[Tensor, Tensor]:
    r"""Positives and negatives of triplets of unit vectors with $|x_i - x_p|^2 > 4 t |x_n - (x_i + x_p) / 2|^2$."""
    s, r = widen(similarity).detach(), widen(reference_similarity).detach()
    kept, others = _angles(s, r, positive, negative, tangent)
    return kept, others


def _gaps(s: Tensor, r: Tensor, t: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Of one positive a row, whose row is r and whose similarity is t: the violation by each negative."""
    return torch.where(negative, torch.maximum(s, r) + (margin - t), 0.0).clamp_(min=0)


def _logits(s: Tensor, r: Tensor, t: Tensor, negative: Tensor, tangent: float) -> Tensor:
    return (s + r).mul_(4 * tangent).sub_(2 * (1 + tangent) * t).masked_fill_(~negative, float("-inf"))


@torch.library.custom_op("pullpush::with_references", mutates_args=())
def _with_references(
    s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, parameter: float, swap: bool
) -> tuple[Tensor, Tensor]:
    columns, valid = _places_of(positive)
    total, number = s.new_zeros(len(s), 1), s.new_zeros(len(s), 1)
    for i in range(columns.shape[1]):
        column, real = columns[:, i : i + 1], valid[:, i : i + 1]
        cells = (_gaps if swap else _logits)(s, r[column[:, 0]], s.gather(1, column), negative, parameter)
        if swap:
            number += torch.where(real, (cells > 0).sum(1, keepdim=True, dtype=s.dtype), 0.0)
        each = cells.sum(1, keepdim=True) if swap else softplus(cells.logsumexp(1, keepdim=True))
        total += torch.where(real, each, 0.0)
    return total[:, 0], number[:, 0]


@_with_references.register_fake
def _(s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, parameter: float, swap: bool) -> tuple[Tensor, Tensor]:
    return s.new_empty(s.shape[0]), s.new_empty(s.shape[0])


@torch.library.custom_op("pullpush::with_references_backward", mutates_args=())
def _with_references_backward(
    gradient: Tensor, s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, parameter: float, swap: bool
) -> tuple[Tensor, Tensor]:
    columns, valid = _places_of(positive)
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


@_with_references_backward.register_fake
def _(
    gradient: Tensor, s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, parameter: float, swap: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(s), torch.empty_like(r)


def _setup_with_references(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.parameter, ctx.swap = inputs
    ctx.save_for_backward(*tensors)


def _backward_with_references(ctx: Any, gradient: Tensor, of_number: Tensor) -> tuple[Tensor | None, ...]:
    ds, dr = _with_references_backward(gradient.contiguous(), *ctx.saved_tensors, ctx.parameter, ctx.swap)
    return ds, dr, None, None, None, None


_with_references.register_autograd(_backward_with_references, setup_context=_setup_with_references)


@torch.library.custom_op("pullpush::angles", mutates_args=())
def _angles(s: Tensor, r: Tensor, positive: Tensor, negative: Tensor, tangent: float) -> tuple[Tensor, Tensor]:
    columns, valid = _places_of(positive)
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
