"""Softmax over class proxies on the sphere, with margins on the own class's angle."""

import math
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from pullpush.bounds import Bound, Centers, CosineMargin, Positive, Radians
from pullpush.maths.angles import cos_of_sum
from pullpush.maths.choice import loss
from pullpush.maths.losses.base import against_negatives, by_class
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import widen

__all__ = ["arcface", "cosface", "normalized_softmax", "sphereface", "sub_center_arcface"]


@loss(proxies=True)
def normalized_softmax(rectangle: Rectangle, *, temperature: Positive = 0.05) -> AnchorLoss:
    r"""Softmax cross entropy on the cosine to the proxies.

    $$L_{ip} = -\log \frac{e^{s_{ip}/\tau}}{e^{s_{ip}/\tau} + \sum_n e^{s_{in}/\tau}}$$

    averaged over anchors.

    Args:
        rectangle: [anchors, proxies], the cosine; an anchor's positive is the proxy of its class.
        temperature: tau, in units of the similarity. 0.05 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Zhai and Wu, Classification is a Strong Baseline for Deep Metric Learning, BMVC 2019.
    """
    return against_negatives(widen(rectangle.similarity), rectangle.pairs, 1 / temperature)


@loss(proxies=True, unit_length=True)
def cosface(rectangle: Rectangle, *, margin: CosineMargin = 0.35, scale: Positive = 64.0) -> AnchorLoss:
    r"""A margin on the own class's cosine.

    $$L_{ip} = -\log \frac{e^{\sigma (s_{ip} - m)}}{e^{\sigma (s_{ip} - m)} + \sum_n e^{\sigma s_{in}}}$$

    averaged over anchors.

    Args:
        rectangle: [anchors, proxies], the cosine; an anchor's positive is the proxy of its class.
        margin: m, of the cosine. 0.35 is the paper's.
        scale: sigma. 64 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, CVPR 2018.
    """
    return against_negatives(widen(rectangle.similarity), rectangle.pairs, scale, lambda s: s - margin)


@loss(proxies=True, unit_length=True)
def arcface(rectangle: Rectangle, *, margin: Radians = 0.5, scale: Positive = 64.0) -> AnchorLoss:
    r"""A margin on the own class's angle.

    $$L_{ip} = -\log \frac{e^{\sigma \phi_{ip}}}{e^{\sigma \phi_{ip}} + \sum_n e^{\sigma s_{in}}} \qquad
      \phi = \cos(\theta + m), \quad \theta = \arccos s$$

    averaged over anchors. Beyond theta = pi - m, where the cosine would rise again, cos(theta) - m sin(m) is taken
    instead, as the authors' code does.

    Args:
        rectangle: [anchors, proxies], the cosine; an anchor's positive is the proxy of its class.
        margin: m, in radians. 0.5 is the paper's.
        scale: sigma. 64 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019.
    """
    return against_negatives(widen(rectangle.similarity), rectangle.pairs, scale, partial(_cos_of_wider, margin=margin))


@loss(proxies=True, unit_length=True)
def sub_center_arcface(
    rectangle: Rectangle, *, margin: Radians = 0.5, scale: Positive = 64.0, centers: Centers = 3
) -> AnchorLoss:
    r"""ArcFace with several proxies a class, of which the nearest counts: the others take the noisy samples.

    $$L_{ic} = -\log \frac{e^{\sigma \phi_{ic}}}{e^{\sigma \phi_{ic}} + \sum_n e^{\sigma \cos \theta_{in}}} \qquad
      \phi = \cos(\theta + m), \quad \theta_{ic} = \arccos \max_k s_{ick}$$

    over classes c and n, averaged over anchors.

    Args:
        rectangle: [anchors, classes * centers], the cosine; the proxies of a class stand beside each other;
            an anchor's positives are the proxies of its class.
        margin: m, in radians. 0.5 is the paper's.
        scale: sigma. 64 is the paper's.
        centers: proxies a class, `Proxies(classes, dim, per_class=centers)`. 3 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Raises:
        UserError: the number of proxies is not a multiple of `centers`.

    Source: Deng et al., Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces, ECCV 2020.
    """
    cells, classes = by_class(widen(rectangle.similarity), rectangle.pairs, centers)
    return against_negatives(cells.amax(1), classes, scale, partial(_cos_of_wider, margin=margin))


@loss(proxies=True, unit_length=True)
def sphereface(rectangle: Rectangle, *, margin: Annotated[int, Bound(1, 64)] = 4, scale: Positive = 30.0) -> AnchorLoss:
    r"""The own class's angle, multiplied.

    $$L_{ip} = -\log \frac{e^{\sigma \psi(\theta_{ip})}}{e^{\sigma \psi(\theta_{ip})} + \sum_n e^{\sigma s_{in}}} \qquad
      \psi(\theta) = (-1)^k \cos(m \theta) - 2k, \quad \theta = \arccos s \in [k \pi / m, (k + 1) \pi / m]$$

    averaged over anchors. The paper leaves the embedding unnormalised, its length is sigma; the fixed sigma is that of
    the authors' later SphereFace-R.

    Args:
        rectangle: [anchors, proxies], the cosine; an anchor's positive is the proxy of its class.
        margin: m, an integer. 4 is the paper's.
        scale: sigma. 30 is SphereFace-R's.

    Returns:
        AnchorLoss [anchors].

    Source: Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition, CVPR 2017.
    """
    s = widen(rectangle.similarity).clamp(-1, 1)
    return against_negatives(s, rectangle.pairs, scale, partial(_cos_of_multiple, margin=margin))


def _cos_of_multiple(s: Tensor, margin: int) -> Tensor:
    """cos(margin * arccos(s)), falling all the way."""
    # cos(m theta) as a polynomial of the cosine (Chebyshev): its gradient is finite at both ends, arccos's is not.
    before, multiple = torch.ones_like(s), s
    for _ in range(margin - 1):
        before, multiple = multiple, 2 * s * multiple - before
    k = sum(((s < math.cos(i * math.pi / margin)).to(s.dtype) for i in range(1, margin)), torch.zeros_like(s))
    return (1 - 2 * (k % 2)) * multiple - 2 * k


def _cos_of_wider(s: Tensor, margin: float) -> Tensor:
    """cos(arccos(s) + margin), falling all the way."""
    return torch.where(s > math.cos(math.pi - margin), cos_of_sum(s, margin), s - margin * math.sin(margin))
