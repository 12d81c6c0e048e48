"""Variance, invariance and covariance: learning from two views without negatives."""

from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import relu

from pullpush.bounds import Bound, NonNegative, Positive
from pullpush.maths.choice import regularizer
from pullpush.maths.losses.base import of_the_batch
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss
from pullpush.maths.reduce import count_of, sum_of, widen
from pullpush.maths.similarity import negative_squared_euclidean

__all__ = ["covariance", "variance", "vicreg"]

Epsilon = Annotated[float, Bound(1e-12, 1)]


@regularizer(whole=True)
def variance(
    embeddings: Tensor, references: Tensor, pairs: Pairs, *, target: Positive = 1.0, epsilon: Epsilon = 1e-4
) -> AnchorLoss:
    r"""Keeps every dimension in use: its standard deviation over the batch shall reach a target.

    $$v = \frac{1}{D} \sum_d \big[\gamma - \sqrt{\mathrm{var}(x_d) + \epsilon}\,\big]_+$$

    Not a sum over anchors, so it can't be streamed.

    Args:
        embeddings: x [anchors, dim], not normalised.
        references: [references, dim]; not needed.
        pairs: masks [anchors, references]; not needed.
        target: gamma. 1 is the paper's.
        epsilon: under the root. 1e-4 is the paper's.

    Returns:
        AnchorLoss [anchors], equal shares.

    Source: Bardes et al., VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning, ICLR
    2022.
    """
    terms = _variance(embeddings, target, epsilon)
    return of_the_batch(terms, torch.ones_like(terms), len(embeddings))


@regularizer(whole=True)
def covariance(embeddings: Tensor, references: Tensor, pairs: Pairs) -> AnchorLoss:
    r"""Keeps dimensions from telling the same: their covariances over the batch shall vanish.

    $$c = \frac{1}{D} \sum_{d \ne e} \mathrm{cov}(x_d, x_e)^2$$

    Not a sum over anchors, so it can't be streamed.

    Args:
        embeddings: x [anchors, dim], not normalised.
        references: [references, dim]; not needed.
        pairs: masks [anchors, references]; not needed.

    Returns:
        AnchorLoss [anchors], equal shares.

    Source: Bardes et al., VICReg, ICLR 2022.
    """
    terms = _covariance(embeddings)
    return of_the_batch(terms, torch.ones_like(terms), len(embeddings))


@regularizer(whole=True)
def vicreg(
    embeddings: Tensor,
    references: Tensor,
    pairs: Pairs,
    *,
    invariance_weight: NonNegative = 25.0,
    variance_weight: NonNegative = 25.0,
    covariance_weight: NonNegative = 1.0,
    target: Positive = 1.0,
    epsilon: Epsilon = 1e-4,
) -> AnchorLoss:
    r"""Two views of an image alike, with every dimension in use and telling something else. Needs no other loss.

    $$L = \frac{\lambda}{|P|} \sum_{(i,p)} \frac{|x_i - y_p|^2}{D} + \frac{\mu}{2} \big(v(x) + v(y)\big)
        + \nu \big(c(x) + c(y)\big)$$

    with v and c as in `variance` and `covariance`. The paper's formulas lack the 1/D and the 1/2; its weights are
    those of the released code, which has them, as here. Not a sum over anchors, so it can't be streamed.

    Args:
        embeddings: x [anchors, dim], one view, not normalised.
        references: y [references, dim], the other.
        pairs: masks [anchors, references]; positive are the two views of an image. Negatives are not needed.
        invariance_weight: lambda. 25 is the paper's.
        variance_weight: mu. 25 is the paper's.
        covariance_weight: nu. 1 is the paper's.
        target: of the standard deviations. 1 is the paper's.
        epsilon: under their root. 1e-4 is the paper's.

    Returns:
        AnchorLoss [anchors, 2]: pairs, and equal shares of the rest.

    Source: Bardes et al., VICReg, ICLR 2022.
    """
    squared = -negative_squared_euclidean(embeddings, references) / embeddings.shape[1]
    alike = invariance_weight * sum_of(squared, pairs.positive)
    spread = (_variance(embeddings, target, epsilon) + _variance(references, target, epsilon)) / 2
    apart = _covariance(embeddings) + _covariance(references)
    terms = variance_weight * spread + covariance_weight * apart
    rest = of_the_batch(terms, torch.ones_like(terms), len(embeddings))
    return AnchorLoss(
        torch.stack([alike, rest.total], 1),
        torch.stack([count_of(pairs.positive, dtype=alike.dtype), rest.count], 1),
    )


def _centred(x: Tensor) -> tuple[Tensor, int]:
    x = widen(x)
    return x - x.mean(0), max(1, len(x) - 1)


def _variance(x: Tensor, target: float, epsilon: float) -> Tensor:
    x, freedom = _centred(x)
    return relu(target - (x.square().sum(0) / freedom + epsilon).sqrt()).mean()


def _covariance(x: Tensor) -> Tensor:
    x, freedom = _centred(x)
    matrix = x.mT @ x / freedom
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / x.shape[1]
