"""Similarities: functions of two sets of vectors, [n, dim] and [m, dim], to the rectangle [n, m].

Larger means closer.
"""

import torch
from torch import Tensor

from pullpush.maths.reduce import widen

__all__ = ["SIMILARITIES", "cosine", "dot", "negative_euclidean", "negative_squared_euclidean", "normalize", "snr"]


def normalize(x: Tensor) -> Tensor:
    """x / |x| for each row, of any length from 1e-30 to 1e30; a zero row stays zero, with gradient zero."""
    x = widen(x)
    # Brought to size 1 before it is squared: the square of 1e-30 or 1e30 is no number in float32.
    size = x.detach().abs().amax(-1, keepdim=True)
    some = size != 0  # a NaN too
    x = torch.where(some, x / torch.where(some, size, 1.0), 0.0)
    return x / torch.where(some, torch.linalg.vector_norm(x, dim=-1, keepdim=True), 1.0)


def dot(x: Tensor, y: Tensor) -> Tensor:
    r"""$s_{ij} = x_i \cdot y_j$."""
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
