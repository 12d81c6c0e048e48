"""What several losses share."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from pullpush.errors import UserError
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import AnchorLoss
from pullpush.maths.reduce import any_of, cells_of, count_of, logsumexp_of, sum_of

__all__ = ["against_negatives", "by_class", "of_the_batch", "without_itself"]


def against_negatives(
    similarity: Tensor, pairs: Pairs, scale: float | Tensor, harder: Callable[[Tensor], Tensor] | None = None
) -> AnchorLoss:
    r"""The softmax cross entropy of each positive among the anchor's negatives, the core of a family of losses.

    $$L_{ip} = -\log \frac{e^{\sigma \phi(s_{ip})}}{e^{\sigma \phi(s_{ip})} + \sum_n e^{\sigma s_{in}}}
            = \mathrm{softplus}\Big(\log \sum_n e^{\sigma s_{in}} - \sigma \phi(s_{ip})\Big)$$

    Args:
        similarity: s [anchors, references].
        pairs: masks of the same shape.
        scale: sigma.
        harder: phi, of each number by itself; the number itself where it is left out.

    Returns:
        AnchorLoss [anchors], counting positive pairs.
    """
    logits, cells = similarity * scale, cells_of(pairs.positive)
    columns = None if cells is None else _lone_positives(cells, pairs)
    if columns is not None:
        if harder is not None:
            logits = logits.scatter(1, columns, harder(similarity.gather(1, columns)) * scale)
        each = torch.nn.functional.cross_entropy(logits, columns[:, 0], reduction="none")
        return AnchorLoss(each, torch.ones_like(each))
    negatives = logsumexp_of(logits, pairs.negative)
    count = count_of(pairs.positive, dtype=negatives.dtype)
    if cells is None:
        own = logits if harder is None else harder(similarity) * scale
        each = torch.nn.functional.softplus(negatives[:, None] - own)
        return AnchorLoss(sum_of(each, pairs.positive), count)
    rows = cells // pairs.positive.shape[1]
    own = logits.take(cells) if harder is None else harder(similarity.take(cells)) * scale
    losses = torch.nn.functional.softplus(negatives[rows] - own)
    return AnchorLoss(torch.zeros_like(negatives).scatter_add(0, rows, losses), count)


def _lone_positives(cells: Tensor, pairs: Pairs) -> Tensor | None:
    """Columns [anchors, 1] of the positives, where each anchor has one and all other cells are negative, as with
    proxies; else None."""
    rows, columns = pairs.positive.shape
    if not rows or len(cells) != rows or int(count_of(pairs.negative).sum()) != rows * (columns - 1):
        return None
    places = cells - torch.arange(0, rows * columns, columns)
    return places[:, None] if (places.amin() >= 0) & (places.amax() < columns) else None


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
        The similarity [anchors, centers, classes], in which a class's proxies are reduced at once for all classes, and
        masks [anchors, classes], true where any proxy of the class is.

    Raises:
        UserError: the number of proxies is not a multiple of `centers`.
    """
    rows, columns = similarity.shape
    if centers < 1 or columns % centers:
        raise UserError(
            f"{columns} proxies can't be {centers} a class: give Proxies(classes, dim, per_class={centers})"
        )
    shape = (rows, columns // centers, centers)
    return similarity.view(shape).mT.contiguous(), Pairs(
        *(reduce(torch.logical_or, mask.view(shape).unbind(-1)) for mask in pairs)
    )
