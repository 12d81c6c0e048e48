"""Neighbourhood components analysis, and its forms with proxies."""

import torch
from torch import Tensor

from pullpush.bounds import Positive
from pullpush.maths.losses.base import AnchorLoss, against_negatives, traits
from pullpush.maths.losses.nt_xent import decoupled_contrastive
from pullpush.maths.pairs import Pairs
from pullpush.maths.reduce import any_of, logsumexp_of, widen

__all__ = ["nca", "proxy_nca", "proxy_nca_pp"]


@traits(similarity="negative_squared_euclidean")
def nca(similarity: Tensor, pairs: Pairs, *, scale: Positive = 1.0) -> AnchorLoss:
    r"""The probability that a neighbour drawn by similarity is a positive.

    $$L_i = -\log \frac{\sum_p e^{\sigma s_{ip}}}{\sum_p e^{\sigma s_{ip}} + \sum_n e^{\sigma s_{in}}}$$

    averaged over anchors that have a positive.

    Args:
        similarity: [anchors, references], minus the squared Euclidean distance.
        pairs: masks of the same shape.
        scale: sigma, per unit of the similarity. 1 is the paper's, in which a linear map learns it.

    Returns:
        AnchorLoss [anchors].

    Source: Goldberger et al., Neighbourhood Components Analysis, NeurIPS 2004, with the logarithm of
    its g(A).
    """
    logits = scale * widen(similarity)
    odds = logsumexp_of(logits, pairs.negative) - logsumexp_of(logits, pairs.positive)
    some = any_of(pairs.positive)
    return AnchorLoss(torch.where(some, torch.nn.functional.softplus(odds), 0.0), some.to(logits.dtype))


@traits(proxies=True, unit_length=True)
def proxy_nca(similarity: Tensor, pairs: Pairs, *, scale: Positive = 1.0) -> AnchorLoss:
    r"""NCA with class proxies as the only neighbours, and without the own proxy in the denominator.

    $$L_{ip} = -\log \frac{e^{-\sigma d_{ip}}}{\sum_n e^{-\sigma d_{in}}} \qquad d = |x - y|^2 = 2 - 2 s$$

    with unit vectors x and y, averaged over anchors. Not bounded below by 0.

    Args:
        similarity: [anchors, proxies], the cosine.
        pairs: masks of the same shape; an anchor's positive is the proxy of its class.
        scale: sigma, per unit of the squared distance. 1 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Movshovitz-Attias et al., No Fuss Distance Metric Learning using Proxies, ICCV 2017, Algorithm 1.
    """
    return decoupled_contrastive(similarity, pairs, temperature=1 / (2 * scale))


@traits(proxies=True, unit_length=True)
def proxy_nca_pp(similarity: Tensor, pairs: Pairs, *, temperature: Positive = 1 / 9) -> AnchorLoss:
    r"""ProxyNCA++: the probability of the own proxy among all, with a temperature.

    $$L_{ip} = -\log \frac{e^{-d_{ip}/\tau}}{e^{-d_{ip}/\tau} + \sum_n e^{-d_{in}/\tau}} \qquad
      d = |x - y|^2 = 2 - 2 s$$

    with unit vectors x and y, averaged over anchors.

    Args:
        similarity: [anchors, proxies], the cosine.
        pairs: masks of the same shape; an anchor's positive is the proxy of its class.
        temperature: tau, in units of the squared distance. 1/9 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Teh et al., ProxyNCA++: Revisiting and Revitalizing Proxy Neighborhood Component Analysis, ECCV 2020.
    """
    logits = (2 * widen(similarity) - 2) / temperature
    return against_negatives(logits, logits, pairs)
