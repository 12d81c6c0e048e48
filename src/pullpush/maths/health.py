"""Measures of the health of embeddings and of a rectangle of similarities: what the doctor's findings are made of.

None of them trains anything; each returns Python numbers or plain tensors, without a graph.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pullpush.maths.pairs import Pairs
from pullpush.maths.similarity import normalize

__all__ = [
    "CellHealth",
    "cell_health",
    "dead_dimensions",
    "dominating_share",
    "drift",
    "duplicate_share",
    "effective_negatives",
    "effective_rank",
    "largest_norm_error",
    "mean_cosine",
    "modality_gap",
    "n_pair_chance",
    "n_pair_floor",
]


def mean_cosine(x: Tensor) -> float:
    r"""Mean off-diagonal cosine, $\big(|\sum_i \hat x_i|^2 - n\big) / (n (n - 1))$ with $\hat x = x / |x|$.

    1 for a collapse to one point, about 0 for directions spread over the sphere. Of [n, dim] in O(n dim); 0 for n < 2.
    """
    n = len(x)
    if n < 2:
        return 0.0
    unit = normalize(x.detach().double())
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (n * (n - 1)))


def effective_rank(x: Tensor) -> float:
    r"""$\exp\big(-\sum_k p_k \ln p_k\big)$ with $p_k = \sigma_k / \sum_j \sigma_j$, the singular values of [n, dim].

    Not centred, so that a collapse to one point has the rank 1; it is at most min(n, dim). 0 for zeros alone.

    Source: Roy and Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007, eq. 1 to 3.
    """
    values = torch.linalg.svdvals(x.detach().double())
    total = values.sum()
    if not total > 0:
        return 0.0
    share = values / total
    return float(torch.special.entr(share).sum().exp())


def n_pair_floor(classes: float, negatives: float | None = None, temperature: float = 1.0) -> float:
    r"""The lowest value of the N-pair and InfoNCE losses on unit vectors.

    $$\ln\big(1 + M e^{-\frac{C}{(C - 1) \tau}}\big)$$

    for C classes and M negatives an anchor (C - 1 where each class has one reference: then with tau = 1 it is
    ln(1 + (N - 1) e^(-N / (N - 1))), 3.86 at N = 128), reached where the classes stand at the corners of a simplex:
    similarity 1 to the positive, -1 / (C - 1) to each negative. For N pairs of unit vectors x, y the mean of
    $s_{in} - s_{ip}$ over all i and n != i is $-\frac{N}{N - 1}$ times the covariance of x and y, which is at most 1;
    the floor follows by Jensen's inequality.

    Args:
        classes: C, at least 2.
        negatives: M.
        temperature: tau.
    """
    spread = classes / (max(classes, 2.0) - 1)
    count = classes - 1 if negatives is None else negatives
    return math.log1p(count * math.exp(-spread / temperature))


def n_pair_chance(negatives: float) -> float:
    """ln(1 + M): the value of the same losses where all similarities are equal; ln N with M = N - 1 negatives."""
    return math.log1p(negatives)


def modality_gap(x: Tensor, y: Tensor) -> float:
    r"""Distance between the centres of two modalities, $|\frac1n \sum_i \hat x_i - \frac1m \sum_j \hat y_j|$, 0 to 2.

    Source: Liang et al., Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation
    Learning, NeurIPS 2022, sec. 2.
    """
    return float((normalize(x.detach().double()).mean(0) - normalize(y.detach().double()).mean(0)).norm())


def dead_dimensions(x: Tensor, tolerance: float = 1e-3) -> int:
    """How many of the dimensions of [n, dim] are the same for all items: their deviation is below `tolerance` times
    that of a dimension on average (root mean square)."""
    variance = x.detach().double().var(0, correction=0)
    return int((variance <= tolerance**2 * variance.mean()).sum())


def dominating_share(x: Tensor) -> float:
    r"""The largest share that one dimension has in the variance, $\max_k v_k / \sum_j v_j$ of [n, dim]; 1 / dim where
    all are alike, 0 where nothing varies."""
    variance = x.detach().double().var(0, correction=0)
    total = variance.sum()
    return float(variance.max() / total) if total > 0 else 0.0


def largest_norm_error(x: Tensor) -> float:
    r"""$\max_i \big| |x_i| - 1 \big|$ of [n, dim]: 0 for unit vectors."""
    return float((x.detach().double().norm(dim=-1) - 1).abs().max()) if len(x) else 0.0


def duplicate_share(similarity: Tensor, negative: Tensor, limit: float = 1 - 1e-6) -> float:
    """Share of the anchors [n] with a negative whose cosine is above `limit`: the same image or the same words, held
    to be another class."""
    if not similarity.numel():
        return 0.0
    return float(((similarity.detach() > limit) & negative).any(1).double().mean())


def effective_negatives(similarity: Tensor, negative: Tensor, temperature: float) -> float:
    r"""Over how many negatives the gradient of a softmax is spread: the median over anchors of
    $\exp\big(-\sum_n w_n \ln w_n\big)$, $w_n \propto e^{s_n / \tau}$.

    1 where the closest negative alone counts, their number where all count alike. 0 without negatives.
    """
    rows = negative.any(1)
    if not rows.any():
        return 0.0
    logits = torch.where(negative, similarity.detach().double() / temperature, -math.inf)[rows]
    return float(torch.special.entr(logits.softmax(1)).sum(1).exp().median())


def drift(x: Tensor, earlier: Tensor) -> float:
    r"""Mean squared change of the same items' embeddings, $\frac1n \sum_i |\hat x_i - \hat y_i|^2$: 0 for none, 2 for
    unrelated directions.

    Source: Wang et al., Cross-Batch Memory for Embedding Learning, CVPR 2020, eq. 2.
    """
    return float((normalize(x.detach().double()) - normalize(earlier.detach().double())).square().sum(-1).mean())


class CellHealth(NamedTuple):
    """Counts and means of a rectangle [anchors, references]."""

    anchors: int
    with_positive: float
    """Share of anchors with a positive."""
    negatives: float
    """Negatives an anchor, on average."""
    positive: float
    """Mean similarity of positive cells; NaN without any."""
    negative: float
    """Mean similarity of negative cells; NaN without any."""
    spread: float
    """Standard deviation of the similarity over all cells of `pairs`."""
    nearest: float
    """Share of anchors with a positive whose most similar cell is one (ties count as half at most): recall@1 of the
    batch."""


def cell_health(similarity: Tensor, pairs: Pairs) -> CellHealth:
    """Counts and means of a rectangle; masks of the same shape."""
    s = similarity.detach().double()
    positive, negative = pairs
    used = positive | negative
    some = positive.any(1)
    best = torch.where(positive, s, -math.inf).amax(1)
    rival = torch.where(negative, s, -math.inf).amax(1)
    won = ((best > rival).double() + 0.5 * (best == rival).double())[some]
    return CellHealth(
        anchors=len(s),
        with_positive=float(some.double().mean()),
        negatives=float(negative.sum(1).double().mean()),
        positive=float(s[positive].mean()),
        negative=float(s[negative].mean()),
        spread=float(s[used].std(correction=0)) if used.any() else math.nan,
        nearest=float(won.mean()) if len(won) else math.nan,
    )
