"""Neighbourhood components analysis, and its forms with proxies."""

import torch

from pullpush.bounds import Positive
from pullpush.maths.choice import loss
from pullpush.maths.losses.base import against_negatives, without_itself
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import any_of, logsumexp_of, widen

__all__ = ["nca", "proxy_nca", "proxy_nca_pp"]


@loss(similarity="negative_squared_euclidean")
def nca(rectangle: Rectangle, *, scale: Positive = 1.0) -> AnchorLoss:
    r"""The probability that a neighbour drawn by similarity is a positive.

    $$L_i = -\log \frac{\sum_p e^{\sigma s_{ip}}}{\sum_p e^{\sigma s_{ip}} + \sum_n e^{\sigma s_{in}}}$$

    averaged over anchors that have a positive.

    Args:
        rectangle: [anchors, references], minus the squared Euclidean distance.
        scale: sigma, per unit of the similarity. 1 is the paper's, in which a linear map learns it.

    Returns:
        AnchorLoss [anchors].

    Source: Goldberger et al., Neighbourhood Components Analysis, NeurIPS 2004, with the logarithm of
    its g(A).
    """
    pairs = rectangle.pairs
    logits = scale * widen(rectangle.similarity)
    odds = logsumexp_of(logits, pairs.negative) - logsumexp_of(logits, pairs.positive)
    some = any_of(pairs.positive)
    return AnchorLoss(torch.where(some, torch.nn.functional.softplus(odds), 0.0), some.to(logits.dtype))


@loss(proxies=True, unit_length=True)
def proxy_nca(rectangle: Rectangle, *, scale: Positive = 1.0) -> AnchorLoss:
    r"""NCA with class proxies as the only neighbours, and without the own proxy in the denominator.

    $$L_{ip} = -\log \frac{e^{-\sigma d_{ip}}}{\sum_n e^{-\sigma d_{in}}} \qquad d = |x - y|^2 = 2 - 2 s$$

    with unit vectors x and y, averaged over anchors. Not bounded below by 0.

    Args:
        rectangle: [anchors, proxies], the cosine; an anchor's positive is the proxy of its class.
        scale: sigma, per unit of the squared distance. 1 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Movshovitz-Attias et al., No Fuss Distance Metric Learning using Proxies, ICCV 2017, Algorithm 1.
    """
    return without_itself(2 * scale * widen(rectangle.similarity), rectangle.pairs)


@loss(proxies=True, unit_length=True)
def proxy_nca_pp(rectangle: Rectangle, *, temperature: Positive = 1 / 9) -> AnchorLoss:
    r"""ProxyNCA++: the probability of the own proxy among all, with a temperature.

    $$L_{ip} = -\log \frac{e^{-d_{ip}/\tau}}{e^{-d_{ip}/\tau} + \sum_n e^{-d_{in}/\tau}} \qquad
      d = |x - y|^2 = 2 - 2 s$$

    with unit vectors x and y, averaged over anchors.

    Args:
        rectangle: [anchors, proxies], the cosine; an anchor's positive is the proxy of its class.
        temperature: tau, in units of the squared distance. 1/9 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Teh et al., ProxyNCA++: Revisiting and Revitalizing Proxy Neighborhood Component Analysis, ECCV 2020.
    """
    # -d and 2 s differ by the same 2 in every cell.
    return against_negatives(widen(rectangle.similarity), rectangle.pairs, 2 / temperature)
