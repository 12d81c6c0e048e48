"""Circle loss."""

from collections.abc import Mapping
from typing import Any, Literal

import torch

from pullpush.bounds import CosineMargin, Positive
from pullpush.maths.choice import loss
from pullpush.maths.losses.base import of_the_batch
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import any_of, logsumexp_of, logsumexp_of_two, widen

__all__ = ["circle"]

Per = Literal["anchor", "batch"]


def _over_the_batch(options: Mapping[str, Any]) -> bool:
    return bool(options.get("per", "anchor") == "batch")


@loss(whole=_over_the_batch, unit_length=True)
def circle(
    rectangle: Rectangle,
    *,
    margin: CosineMargin = 0.4,
    scale: Positive = 80.0,
    per: Per = "anchor",
) -> AnchorLoss:
    r"""Each similarity at its own pace: the farther from its optimum, the larger its weight.

    $$L = \log\Big(1 + \sum_n e^{\gamma \alpha_n (s_n - m)} \sum_p e^{-\gamma \alpha_p (s_p - 1 + m)}\Big) \qquad
      \alpha_p = [1 + m - s_p]_+, \quad \alpha_n = [s_n + m]_+$$

    The weights alpha are constants in the gradient.

    Args:
        rectangle: [anchors, references], the cosine.
        margin: m. 0.4 is the paper's for fine-grained retrieval, 0.25 its for faces and persons.
        scale: gamma. 80 is the paper's for fine-grained retrieval, 256 its for faces.
        per: "anchor" sums over the pairs of an anchor and averages over anchors that have both kinds of pairs;
            "batch" sums over all pairs of the batch at once, and can't be streamed.

    Returns:
        AnchorLoss [anchors].

    Source: Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    with torch.no_grad():
        # In place: each is a rectangle.
        push_weight = (s + margin).relu_().mul_(scale)
        pull_weight = (1 + margin - s).relu_().mul_(scale)
    pull, push = logsumexp_of_two(
        pull_weight * (1 - margin - s), pairs.positive, push_weight * (s - margin), pairs.negative
    )
    used = any_of(pairs.positive) & any_of(pairs.negative)
    if per == "batch":
        pull, push = logsumexp_of(pull, any_of(pairs.positive)), logsumexp_of(push, any_of(pairs.negative))
        some = any_of(any_of(pairs.positive)) & any_of(any_of(pairs.negative))
        return of_the_batch(torch.nn.functional.softplus(pull + push), some.to(s.dtype), len(s))
    return AnchorLoss(torch.nn.functional.softplus(pull + push), used.to(s.dtype))
