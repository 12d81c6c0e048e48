"""What every loss returns, what it may say of itself, and how it becomes a number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from pullpush.errors import UserError
from pullpush.maths.pairs import Pairs
from pullpush.maths.reduce import count_of, logsumexp_of, sum_of

__all__ = [
    "AnchorLoss", "Traits", "against_negatives", "by_class", "check_choice", "of_the_batch", "per_anchor", "traits",
    "traits_of", "value",
]  # fmt: skip


class AnchorLoss(NamedTuple):
    r"""Per anchor, the sum and the weight it stands for.

    Both [anchors], or [anchors, terms] where a paper averages terms apart. Rows computed in blocks, or on several
    ranks, are added up exactly, since the value is $\sum_t \sum_a total_{at} / \sum_a count_{at}$.
    """

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # tuple.count is of no use here


def value(loss: AnchorLoss) -> Tensor:
    """The number to minimise; 0, with a graph, where nothing counts."""
    total, count = loss.total.sum(0), loss.count.sum(0)
    return torch.where(count > 0, total / torch.where(count > 0, count, 1.0), total * 0.0).sum()


def per_anchor(loss: AnchorLoss) -> Tensor:
    """The value of each anchor [anchors]; 0 where it counts for nothing."""
    total, count = loss.total, loss.count
    each = torch.where(count > 0, total / torch.where(count > 0, count, 1.0), total * 0.0)
    return each if each.ndim == 1 else each.sum(1)


@dataclass(frozen=True)
class Traits:
    """What a loss says of itself to whoever calls it.

    Attributes:
        similarity: name of the similarity that its paper measures with; used unless another is asked for.
        whole: tells from the options whether the loss is not a sum over anchors, so that it can't be streamed.
        learned: options that are learned with the encoder; their defaults are the starting points.
        proxies: the columns are class proxies.
        unit_length: holds for unit vectors only, whatever the similarity: the criterion normalises. Of miners too.
    """

    similarity: str = "cosine"
    whole: Callable[[Mapping[str, Any]], bool] = lambda options: False
    learned: tuple[str, ...] = ()
    proxies: bool = False
    unit_length: bool = False


F = TypeVar("F", bound=Callable[..., Any])


def traits(
    *, similarity: str = "cosine", whole: bool | Callable[[Mapping[str, Any]], bool] = False,
    learned: tuple[str, ...] = (), proxies: bool = False, unit_length: bool = False,
) -> Callable[[F], F]:  # fmt: skip
    """Decorator of a loss: see `Traits`. A loss without it has the defaults."""
    test = whole if callable(whole) else (lambda options: whole)

    def mark(function: F) -> F:
        function.__dict__["traits"] = Traits(similarity, test, learned, proxies, unit_length)
        return function

    return mark


def traits_of(function: Callable[..., Any]) -> Traits:
    """What a loss says of itself."""
    found = getattr(function, "traits", None)
    return found if isinstance(found, Traits) else Traits()


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
    negatives = logsumexp_of(negative_logits, pairs.negative)[:, None]
    each = torch.nn.functional.softplus(negatives - positive_logits)
    return AnchorLoss(sum_of(each, pairs.positive), count_of(pairs.positive, dtype=each.dtype))


def of_the_batch(total: Tensor, count: Tensor, anchors: int) -> AnchorLoss:
    """Sums that belong to all anchors together, [] or [terms], in equal shares: what a loss that is `whole` returns."""
    shape = (anchors, *total.shape)
    return AnchorLoss((total / anchors).expand(shape), (count / anchors).expand(shape))


def check_choice(option: str, choice: str, known: tuple[str, ...]) -> None:
    """Refuses an option that is none of `known`.

    Raises:
        UserError: names the option and what it may be.
    """
    if choice not in known:
        raise UserError(f"unknown {option} {choice!r}: one of {', '.join(map(repr, known))}")


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
