"""What several losses share."""

import torch
from torch import Tensor

from pullpush.errors import UserError
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss
from pullpush.maths.reduce import any_of, cells_of, count_of, logsumexp_of, sum_of

__all__ = ["against_negatives", "by_class", "of_the_batch", "without_itself"]


def against_negatives(positive_logits: Tensor, negative_logits: Tensor, pairs: Pairs) -> AnchorLoss:
    r"""The softmax cross entropy of each positive among the anchor's negatives, the core of a family of losses.

    $$L_{ip} = -\log \frac{e^{u_{ip}}}{e^{u_{ip}} + \sum_n e^{v_{in}}}
            = \mathrm{softplus}\Big(\log \sum_n e^{v_{in}} - u_{ip}\Big)$$

    Args:
        positive_logits: u [anchors, references], read where a cell is positive.
        negative_logits: v of the same shape, read where a cell is negative.
        pairs: masks of the same shape.

    Returns:
        AnchorLoss [anchors], counting positive pairs.
    """
    negatives = logsumexp_of(negative_logits, pairs.negative)
    count = count_of(pairs.positive, dtype=negatives.dtype)
    cells = cells_of(pairs.positive)
    if cells is None:
        each = torch.nn.functional.softplus(negatives[:, None] - positive_logits)
        return AnchorLoss(sum_of(each, pairs.positive), count)
    rows = cells // pairs.positive.shape[1]
    losses = torch.nn.functional.softplus(negatives[rows] - positive_logits.reshape(-1)[cells])
    return AnchorLoss(torch.zeros_like(negatives).scatter_add(0, rows, losses), count)


def without_itself(logits: Tensor, pairs: Pairs) -> AnchorLoss:
    r"""The same without the positive in its own denominator, so that it does not fade as positives get close.

    $$L_{ip} = \log \sum_n e^{u_{in}} - u_{ip}$$

    Args:
        logits: u [anchors, references].
        pairs: masks of the same shape.

    Returns:
        AnchorLoss [anchors], counting positive pairs of anchors that have a negative.
    """
    some = any_of(pairs.negative)
    count = count_of(pairs.positive, dtype=logits.dtype) * some
    # An anchor without negatives has the lowest number here; times 0 it is finite.
    total = count * logsumexp_of(logits, pairs.negative) - sum_of(logits, pairs.positive) * some
    return AnchorLoss(total, count)


def of_the_batch(total: Tensor, count: Tensor, anchors: int) -> AnchorLoss:
    """Sums that belong to all anchors together, [] or [terms], in equal shares: what a loss that is `whole` returns."""
    shape = (anchors, *total.shape)
    return AnchorLoss((total / anchors).expand(shape), (count / anchors).expand(shape))


def by_class(similarity: Tensor, pairs: Pairs, centers: int) -> tuple[Tensor, Pairs]:
    """Several proxies a class, apart from the classes.

    Args:
        similarity: [anchors, classes * centers]; the proxies of a class stand beside each other.
        pairs: masks of the same shape.
        centers: proxies a class.

    Returns:
        The similarity [anchors, classes, centers], and masks [anchors, classes], true where any proxy of the class is.

    Raises:
        UserError: the number of proxies is not a multiple of `centers`.
    """
    rows, columns = similarity.shape
    if centers < 1 or columns % centers:
        raise UserError(
            f"{columns} proxies can't be {centers} a class: give Proxies(classes, dim, per_class={centers})"
        )
    shape = (rows, columns // centers, centers)
    return similarity.view(shape), Pairs(*(mask.view(shape).any(-1) for mask in pairs))
