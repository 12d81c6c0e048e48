"""One positive and one negative an anchor, chosen by how hard they are."""

from typing import Literal

from torch import Tensor

from pullpush.bounds import Real
from pullpush.errors import UserError
from pullpush.maths.choice import miner
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle
from pullpush.maths.reduce import any_of, max_of, min_of

__all__ = ["easy_hard"]

Hardness = Literal["easy", "semihard", "hard", "all"]


@miner()
def easy_hard(
    rectangle: Rectangle,
    *,
    positive: Hardness = "easy",
    negative: Hardness = "semihard",
    positive_range: tuple[Real, Real] | None = None,
    negative_range: tuple[Real, Real] | None = None,
) -> Pairs:
    r"""Keeps one positive and one negative of each anchor, or all of one side.

    $$ p^* = \arg\max_p s_{ip} \;(easy) \;\text{or}\; \arg\min_p s_{ip} \;(hard) \qquad
       n^* = \arg\max_n s_{in} \;(hard) \;\text{or}\; \arg\min_n s_{in} \;(easy) $$

    A semi-hard negative is the hardest of those farther than the chosen positive; a semi-hard positive the hardest of
    those closer than the chosen negative. Equally far ones are all kept. An anchor that finds only one of the two keeps
    nothing, unless a side keeps all of its pairs, which leaves the other alone.

    Args:
        rectangle: [anchors, references].
        positive: "easy", "semihard", "hard" or "all".
        negative: the same.
        positive_range: lowest and highest similarity of a chosen positive; None for any.
        negative_range: of a chosen negative.

    Raises:
        UserError: both sides semi-hard, or one semi-hard and the other all: of which?

    Source: Xuan et al., Improved Embeddings with Easy Positive Triplet Mining, WACV 2020: the default is their
    best. "hard" and "hard" is batch hard, "hard" and "semihard" FaceNet's with one positive.
    """
    if "semihard" in (positive, negative) and (positive == negative or "all" in (positive, negative)):
        raise UserError(
            f"positive={positive!r} and negative={negative!r}: semi-hard is measured from one chosen pair of the other "
            f"side, so make the other side easy or hard"
        )
    s, pairs = rectangle.similarity.detach(), rectangle.pairs
    p, n = _within(s, pairs.positive, positive_range), _within(s, pairs.negative, negative_range)
    if positive == "semihard":
        n = _lowest(s, n) if negative == "easy" else _highest(s, n)
        p = _lowest(s, p & ~(s <= max_of(s, n)[:, None]))
    else:
        p = _highest(s, p) if positive == "easy" else _lowest(s, p)
        if negative == "semihard":
            n = n & ~(s >= min_of(s, p)[:, None])
        n = _lowest(s, n) if negative == "easy" else _highest(s, n)
    if positive == "all" or negative == "all":
        return Pairs(pairs.positive if positive == "all" else p, pairs.negative if negative == "all" else n)
    both = (any_of(p) & any_of(n))[:, None]
    return Pairs(p & both, n & both)


def _within(s: Tensor, mask: Tensor, allowed: tuple[float, float] | None) -> Tensor:
    return mask if allowed is None else mask & ~(s < allowed[0]) & ~(s > allowed[1])


def _highest(s: Tensor, mask: Tensor) -> Tensor:
    return mask & ~(s < max_of(s, mask)[:, None])


def _lowest(s: Tensor, mask: Tensor) -> Tensor:
    return mask & ~(s > min_of(s, mask)[:, None])
