"""Losses that replace the ranks in a retrieval metric by smooth counts."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor

from pullpush.bounds import Bound, Count, Positive
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import any_of, count_of, mean_of, sum_of, widen
from pullpush.maths.triplets import above

__all__ = ["pnp", "recall_at_k", "smooth_ap"]

Variant = Literal["O", "Iu", "Ib", "Ds", "Dq"]


@loss()
def smooth_ap(rectangle: Rectangle, *, temperature: Positive = 0.01) -> AnchorLoss:
    r"""One minus the average precision, with ranks as sums of sigmoids.

    $$L_i = 1 - \frac{1}{|P|} \sum_{p \in P} \frac{1 + R(p, P)}{1 + R(p, P) + R(p, N)} \qquad
      R(p, S) = \sum_{j \in S, j \ne p} \sigma\Big(\frac{s_{ij} - s_{ip}}{\tau}\Big)$$

    averaged over anchors with a positive P; N are the negatives. The anchor itself is not among its positives here,
    whereas the released code counts it, always in the first place.

    Args:
        rectangle: [anchors, references].
        temperature: tau. 0.01 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Brown et al., Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval, ECCV 2020.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    # Each positive stands beside itself with sigmoid(0).
    place = 0.5 + above(s, pairs.positive, pairs.positive, temperature)
    precision = place / (place + above(s, pairs.positive, pairs.negative, temperature))
    counts = any_of(pairs.positive)
    return AnchorLoss(torch.where(counts, 1 - mean_of(precision, pairs.positive), 0.0), counts.to(s.dtype))


@loss()
def recall_at_k(
    rectangle: Rectangle,
    *,
    ks: Annotated[tuple[Count, ...], Bound(1, 100)] = (1, 2, 4, 8, 16),
    temperature: Positive = 0.01,
    k_temperature: Positive = 1.0,
) -> AnchorLoss:
    r"""One minus the recall at several k, with ranks and the cut at k as sigmoids.

    $$L_i = 1 - \frac{1}{|K|} \sum_{k \in K} \frac{\min\big(k, \sum_{p} \sigma((k - r_p) / \tau_1)\big)}{\min(k, |P|)}
      \qquad r_p = 1 + \sum_{j \ne p} \sigma\Big(\frac{s_{ij} - s_{ip}}{\tau_2}\Big)$$

    averaged over anchors with a positive; j are positives and negatives. Divided by the most positives that fit in k,
    and cut there, as in the released code, which also widens tau 1 with k.

    Args:
        rectangle: [anchors, references].
        ks: the k that are averaged. Those of the paper.
        temperature: tau 2, of the ranks. 0.01 is the paper's.
        k_temperature: tau 1, of the cut, in places. 1 is the paper's.

    Returns:
        AnchorLoss [anchors].

    Source: Patel et al., Recall@k Surrogate Loss with Large Batches and Similarity Mixup, CVPR 2022.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    rank = 0.5 + above(s, pairs.positive, pairs.positive | pairs.negative, temperature)
    positives = count_of(pairs.positive, dtype=s.dtype)
    recall = torch.zeros_like(positives)
    for k in ks:
        hits = sum_of(torch.sigmoid((k - rank) / k_temperature), pairs.positive).clamp(max=k)
        recall = recall + hits / positives.clamp(min=1, max=k)
    counts = positives > 0
    return AnchorLoss(torch.where(counts, 1 - recall / len(ks), 0.0), counts.to(s.dtype))


@loss()
def pnp(
    rectangle: Rectangle,
    *,
    variant: Variant = "O",
    temperature: Positive = 0.01,
    steepness: Annotated[float, Bound(0.01, 100)] = 2.0,
    power: Positive = 1.0,
) -> AnchorLoss:
    r"""Penalises the negatives that stand before a positive, and nothing else.

    $$L_i = \frac{1}{|P|} \sum_{p \in P} f(R_p) \qquad
      R_p = \sum_{n \in N} \sigma\Big(\frac{s_{in} - s_{ip}}{\tau}\Big)$$

    averaged over anchors with a positive, where f(R) is

    - `O`: $R$;
    - `Iu`: $(1 + R) \log(1 + R)$, a slope that increases without bound;
    - `Ib`: $(b R - \log(1 + b R)) / b^2$, one that increases up to a bound;
    - `Ds`: $\log(1 + R)$, one that decreases slowly;
    - `Dq`: $1 - (1 + R)^{-\alpha}$, one that decreases quickly.

    Args:
        rectangle: [anchors, references].
        variant: of f, by the paper's names.
        temperature: tau. 0.01 is the paper's.
        steepness: b of "Ib". 2, as in the released code.
        power: alpha of "Dq". 1, as in the released code.

    Returns:
        AnchorLoss [anchors].

    Source: Li et al., Rethinking the Optimization of Average Precision: Only Penalizing Negative Instances before
    Positive Ones is Enough, AAAI 2022.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    before = above(s, pairs.positive, pairs.negative, temperature)
    penalties: dict[str, Callable[[Tensor], Tensor]] = {
        "O": lambda r: r,
        "Iu": lambda r: (1 + r) * torch.log1p(r),
        "Ib": lambda r: (steepness * r - torch.log1p(steepness * r)) / steepness**2,
        "Ds": torch.log1p,
        "Dq": lambda r: 1 - (1 + r) ** -power,
    }
    return AnchorLoss(mean_of(penalties[variant](before), pairs.positive), any_of(pairs.positive).to(s.dtype))
