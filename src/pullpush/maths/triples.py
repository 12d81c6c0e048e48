"""Sums over (anchor, positive, other) without a list of triples: never more than [anchors, references] at a time.

Each positive is compared with its whole row, one positive of every row at a time, or, where there are many, all of them
are sorted once. How many there are is read from the data, which a compiler can't follow: hence operators that it takes
whole.
"""

import torch
from torch import Tensor

from pullpush.maths.reduce import widen

__all__ = ["above", "places_of", "violations"]

# Positives a row up to which comparing each with the row is faster than a search among them.
FEW = 8


def places_of(positive: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of each row's positives, [anchors, most positives of a row], and True where there is one."""
    top = positive.byte().topk(_most(positive))
    return top.indices, top.values.bool()


def violations(similarity: Tensor, positive: Tensor, negative: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Triples with $m + s_{in} - s_{ip} > 0$, and their sum.

    The hinge is linear in the similarities: each negative counts as often as it violates, each positive, with a minus,
    as often as it is violated. So one count, which needs no gradient, gives the exact sum and the exact gradient.

    Returns:
        sum of the violations [anchors], their number [anchors], number of triples [anchors].
    """
    s, compiling = widen(similarity), torch.compiler.is_compiling()
    with torch.no_grad():
        count = _count if compiling else _count_violations
        weight = count(s.detach(), positive, negative, margin)
        number = weight.clamp(min=0).sum(1)  # those of the negatives; the positives' are not above 0
        listed = positive.sum(1, dtype=s.dtype) * negative.sum(1, dtype=s.dtype)
    total = None if compiling else (weight * s).sum(1)
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
    columns, valid = places_of(positive)
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
    columns, valid = places_of(positive)
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


def _setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    s, positive, others, ctx.temperature, ctx.softplus = inputs
    ctx.save_for_backward(s, positive, others)


def _backward(ctx, gradient):  # type: ignore[no-untyped-def]
    s, positive, others = ctx.saved_tensors
    return _above_backward(gradient, s, positive, others, ctx.temperature, ctx.softplus), None, None, None, None


_above.register_autograd(_backward, setup_context=_setup)
