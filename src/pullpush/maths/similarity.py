"""Similarities: functions of two sets of vectors, [n, dim] and [m, dim], to the rectangle [n, m].

Larger means closer.
"""

from typing import Any

import torch
from torch import Tensor

from pullpush.maths.reduce import eager, widen

__all__ = ["SIMILARITIES", "cosine", "dot", "negative_euclidean", "negative_squared_euclidean", "normalize", "snr"]


def normalize(x: Tensor) -> Tensor:
    """x / |x| for each row, of any length from 1e-30 to 1e30; a zero row stays zero, with gradient zero."""
    x = widen(x)
    if x.requires_grad and eager(x) and len(x):
        unit, length = _Normalize.apply(x)
        if length.min() > 1e-15 and length.max() < 1e15:
            return unit  # type: ignore[no-any-return]
    # Brought to size 1 before it is squared: the square of 1e-30 or 1e30 is no number in float32.
    size = x.detach().abs().amax(-1, keepdim=True)
    some = size != 0  # a NaN too
    x = torch.where(some, x / torch.where(some, size, 1.0), 0.0)
    return x / torch.where(some, torch.linalg.vector_norm(x, dim=-1, keepdim=True), 1.0)


class _Normalize(torch.autograd.Function):
    """In three passes, and its gradient in four. The length is an output too, so that the gradient has a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        unit = x / length
        ctx.save_for_backward(unit, length)
        return unit, length

    @staticmethod
    def backward(ctx: Any, of_unit: Tensor | None, of_length: Tensor | None) -> Tensor | None:
        unit, length = ctx.saved_tensors
        slope: Tensor | None = None if of_length is None else of_length * unit
        if of_unit is None:
            return slope
        across: Tensor = torch.addcmul(of_unit, unit, (of_unit * unit).sum(-1, keepdim=True), value=-1) / length
        return across if slope is None else slope + across


class _Gram(torch.autograd.Function):
    """x with itself, whose gradient is one product, not two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x @ x.mT

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # A copy of the transposed first: added as it lies, it takes twice as long.
        both = gradients[0].mT.contiguous().add(gradients[0])
        return both @ ctx.saved_tensors[0]  # type: ignore[no-any-return]


def dot(x: Tensor, y: Tensor) -> Tensor:
    r"""$s_{ij} = x_i \cdot y_j$."""
    if x is y and x.requires_grad and eager(x):
        return _Gram.apply(widen(x))  # type: ignore[no-any-return]  # torch's Function.apply gives Any
    return widen(x) @ widen(y).mT


def cosine(x: Tensor, y: Tensor) -> Tensor:
    r"""$s_{ij} = x_i \cdot y_j / (|x_i| |y_j|)$, in [-1, 1]."""
    return normalize(x) @ normalize(y).mT


def negative_squared_euclidean(x: Tensor, y: Tensor) -> Tensor:
    r"""$s_{ij} = -|x_i - y_j|^2$, never above 0."""
    x, y = widen(x), widen(y)
    # Centred on the references: |x|^2 + |y|^2 - 2xy loses its digits far from the origin.
    centre = y.detach().mean(0, keepdim=True) if len(y) else 0.0
    x, y = x - centre, y - centre
    squared = x.square().sum(-1)[:, None] + y.square().sum(-1)[None, :] - 2 * (x @ y.mT)
    return -squared.clamp(min=0)


def negative_euclidean(x: Tensor, y: Tensor) -> Tensor:
    r"""$s_{ij} = -|x_i - y_j|$. The gradient at distance 0, where there is none, is 0."""
    squared = -negative_squared_euclidean(x, y)
    apart = ~(squared <= 0)  # a NaN too
    return -torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


def snr(x: Tensor, y: Tensor) -> Tensor:
    r"""$s_{ij} = -\mathrm{var}(y_j - x_i) / \mathrm{var}(x_i)$, minus the noise-to-signal ratio of a pair.

    The anchor x is the signal, the difference is the noise; variances are over the dimensions.
    Yuan et al., Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning, CVPR 2019.
    """
    x, y = widen(x), widen(y)
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    signal = x.square().sum(-1).clamp(min=torch.finfo(x.dtype).eps)
    return negative_squared_euclidean(x, y) / signal[:, None]


SIMILARITIES = {
    "cosine": cosine,
    "dot": dot,
    "negative_euclidean": negative_euclidean,
    "negative_squared_euclidean": negative_squared_euclidean,
    "snr": snr,
}
