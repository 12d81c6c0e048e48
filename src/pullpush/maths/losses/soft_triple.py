"""SoftTriple loss."""

import torch
from torch import Tensor

from pullpush.bounds import Centers, CosineMargin, NonNegative, Positive
from pullpush.maths.choice import loss
from pullpush.maths.losses.base import against_negatives, by_class
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import EXPONENT, any_of, largest_exponent, widen

__all__ = ["soft_triple"]


@loss(proxies=True, unit_length=True, wants_references="centers")
def soft_triple(
    rectangle: Rectangle,
    *,
    scale: Positive = 20.0,
    gamma: Positive = 0.1,
    margin: CosineMargin = 0.01,
    tau: NonNegative = 0.2,
    centers: Centers = 10,
) -> AnchorLoss:
    r"""Several proxies a class, mixed by their similarity to the anchor, and drawn together where fewer would do.

    $$L_{ic} = -\log \frac{e^{\lambda (S_{ic} - \delta)}}{e^{\lambda (S_{ic} - \delta)} + \sum_n e^{\lambda S_{in}}}
      \qquad S_{ic} = \sum_k \frac{e^{s_{ick} / \gamma}}{\sum_l e^{s_{icl} / \gamma}} s_{ick}$$

    averaged over anchors, and added to it, with unit vectors w of C classes with K proxies each,

    $$\frac{\tau}{C K (K - 1)} \sum_c \sum_{k < l} |w_{ck} - w_{cl}| \qquad |w_{ck} - w_{cl}| = \sqrt{2 - 2 s_{ckl}}$$

    Args:
        rectangle: [anchors, classes * centers], the cosine; the proxies of a class stand beside each other;
            an anchor's positives are the proxies of its class.
        scale: lambda. 20 is the paper's.
        gamma: softness of the mixture, in units of the similarity. 0.1 is the paper's.
        margin: delta. 0.01 is the paper's.
        tau: weight of the second part. 0.2 is the paper's.
        centers: K, proxies a class, `Proxies(classes, dim, per_class=centers)`. 10 is the paper's.

    Returns:
        AnchorLoss [anchors, 2], the two parts.

    Raises:
        UserError: the number of proxies is not a multiple of `centers`.

    Source: Qian et al., SoftTriple Loss: Deep Metric Learning Without Triplet Sampling, ICCV 2019.
    """
    pairs = rectangle.pairs
    cells, classes = by_class(widen(rectangle.similarity), pairs, centers)
    s = _mixed(cells, gamma, largest_exponent(rectangle.similarity_name, 1 / gamma))
    total, count = against_negatives(s, classes, scale, lambda s: s - margin)
    used = any_of(pairs.positive | pairs.negative).to(s.dtype)
    spread = tau * _mean_gap(widen(rectangle.among()), centers)
    return AnchorLoss(torch.stack([total, spread * used], 1), torch.stack([count, used], 1))


def _mixed(s: Tensor, gamma: float, bound: float) -> Tensor:
    """The mean over the centers by their softmax, for which no largest is searched where none can overflow."""
    if bound > EXPONENT:
        return (torch.softmax(s / gamma, 1) * s).sum(1)
    weight = (s / gamma).exp()
    return (weight * s).sum(1) / weight.sum(1)


def _mean_gap(s: Tensor, centers: int) -> Tensor:
    """The distances between a class's proxies, summed over each pair once and divided by C K (K - 1).

    Args:
        s: similarity of all proxies [C * K, C * K], or of those of each class [C, K, K].
        centers: K.
    """
    if s.ndim == 2:
        s = s.view(len(s) // centers, centers, -1, centers).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    classes, once = len(s), torch.ones(centers, centers, dtype=torch.bool, device=s.device).triu(1)
    square = 2 - 2 * s
    # The root has no slope at 0, where proxies coincide.
    apart = once & ~(square <= torch.finfo(s.dtype).eps)
    gaps = torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)
    return gaps.sum() / max(1, classes * centers * (centers - 1))
