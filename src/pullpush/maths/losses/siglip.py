"""Sigmoid loss."""

import math
from typing import Annotated

import torch
from torch import Tensor

from pullpush.bounds import Bound, Real
from pullpush.maths.choice import loss
from pullpush.maths.rectangle import AnchorLoss, Rectangle
from pullpush.maths.reduce import sum_of, widen

__all__ = ["siglip"]

LOG_10 = math.log(10)
# The scale itself from 1e-6 to 1e6, as everywhere.
LogScale = Annotated[float, Bound(-14, 14)]


@loss(learned=("log_scale", "bias"))
def siglip(rectangle: Rectangle, *, log_scale: LogScale | Tensor = LOG_10, bias: Real | Tensor = -10.0) -> AnchorLoss:
    r"""A binary decision for each pair by itself, without any sum to normalise by.

    $$L_i = \sum_p \log\big(1 + e^{-(t s_{ip} + b)}\big) + \sum_n \log\big(1 + e^{t s_{in} + b}\big) \qquad t = e^{t'}$$

    averaged over all anchors of the batch, as in the paper.

    Args:
        rectangle: [anchors, references], the cosine.
        log_scale: t', learned. Starts at log 10, the paper's.
        bias: b, learned. Starts at -10, the paper's, since most pairs are negative.

    Returns:
        AnchorLoss [anchors].

    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023.
    """
    s, pairs = widen(rectangle.similarity), rectangle.pairs
    logits = torch.as_tensor(log_scale, dtype=s.dtype, device=s.device).exp() * s + bias
    used = pairs.positive | pairs.negative
    each = torch.nn.functional.softplus(torch.where(pairs.positive, -logits, logits))
    total = sum_of(each, used)
    return AnchorLoss(total, torch.ones_like(total))
