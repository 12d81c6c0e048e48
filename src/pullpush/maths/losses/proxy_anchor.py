"""Proxy anchor loss."""

import torch

from pullpush.bounds import CosineMargin, Positive
from pullpush.maths.choice import loss
from pullpush.maths.losses.base import of_the_batch
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import any_of, log1p_sum_exp, widen

__all__ = ["proxy_anchor"]


@loss(proxies=True, whole=True)
def proxy_anchor(rectangle: Rectangle, *, margin: CosineMargin = 0.1, scale: Positive = 32.0) -> AnchorLoss:
    r"""Each proxy pulls the samples of its class, the hardest most, and pushes all others.

    $$L = \frac{1}{|P^+|} \sum_{p \in P^+} \log\Big(1 + \sum_{x \in X_p^+} e^{-\alpha (s_{xp} - \delta)}\Big)
        + \frac{1}{|P|} \sum_{p \in P} \log\Big(1 + \sum_{x \in X_p^-} e^{\alpha (s_{xp} + \delta)}\Big)$$

    over all proxies P, and those with a sample in the batch, P+. It sums down the columns, so it can't be streamed.

    Args:
        rectangle: [samples, proxies], the cosine; a sample's positive is the proxy of its class.
        margin: delta. 0.1 is the paper's.
        scale: alpha. 32 is the paper's.

    Returns:
        AnchorLoss [samples, 2], positives and negatives in equal shares.

    Source: Kim et al., Proxy Anchor Loss for Deep Metric Learning, CVPR 2020.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    pull = log1p_sum_exp(-scale * (s - margin), pairs.positive, dim=0)
    push = log1p_sum_exp(scale * (s + margin), pairs.negative, dim=0)
    with_samples = any_of(pairs.positive, dim=0).to(s.dtype)
    count = torch.stack([with_samples.sum(), torch.ones_like(with_samples).sum()])
    return of_the_batch(torch.stack([pull.sum(), push.sum()]), count, len(s))
