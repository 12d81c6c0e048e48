"""Shares of the batch's pairs: the hardest, or as many at each distance."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from pullpush.bounds import Bins, Bound, Count, Seed
from pullpush.maths.choice import miner
from pullpush.maths.noise import uniform
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle

__all__ = ["hard_percent", "uniform_bins"]

Scope = Literal["batch", "anchor"]


@miner(whole=lambda options: options.get("per", "batch") == "batch")
def hard_percent(
    rectangle: Rectangle, *, fraction: Annotated[float, Bound(0, 1, above=True)] = 0.5, per: Scope = "batch"
) -> Pairs:
    r"""Keeps the hardest share of the positives, and of the negatives.

    $$ \text{kept: the}\; \lceil f \, |P| \rceil \;\text{positives of lowest}\; s,
       \;\text{the}\; \lceil f \, |N| \rceil \;\text{negatives of highest} $$

    and whatever is exactly as hard as the last of them.

    Args:
        rectangle: [anchors, references].
        fraction: f, above 0 and up to 1. The paper cascades 1, 0.5 and 0.2.
        per: of all pairs of the "batch", as in the paper, or of each "anchor". The former can't be streamed.

    Source: Yuan et al., Hard-Aware Deeply Cascaded Embedding, ICCV 2017.
    """
    s, pairs = rectangle.similarity.detach(), rectangle.pairs
    shape = (1, -1) if per == "batch" else s.shape
    kept = [
        _hardest(x.reshape(shape), mask.reshape(shape), fraction).view(s.shape)
        for x, mask in ((s, pairs.positive), (-s, pairs.negative))
    ]
    return Pairs(*kept)


def _hardest(x: Tensor, mask: Tensor, fraction: float) -> Tensor:
    """Lowest share of each row."""
    number = (fraction * mask.sum(1, keepdim=True).double()).ceil().long()
    ordered = torch.where(mask, x, float("inf")).sort(1).values
    return mask & (number > 0) & ~(x > ordered.gather(1, (number - 1).clamp(min=0)))


@miner(whole=lambda options: options.get("per", "batch") == "batch")
def uniform_bins(
    rectangle: Rectangle,
    *,
    bins: Bins = 100,
    positives_per_bin: Count = 10,
    negatives_per_bin: Count = 10,
    per: Scope = "batch",
    seed: Seed = 0,
) -> Pairs:
    r"""Keeps at most so many pairs in each of equally wide bins of the similarity, drawn evenly within a bin.

    $$ \text{bin of a pair:}\; \Big\lfloor B \, \frac{s - \min s}{\max s - \min s} \Big\rfloor $$

    with the least and the largest similarity of the positives, and of the negatives. Drawn without replacement; the
    noise comes from the similarities themselves, see `pullpush.maths.noise.uniform`: equal ones are kept together.

    Args:
        rectangle: [anchors, references].
        bins: B. 100, as in popular code.
        positives_per_bin: most positives of a bin.
        negatives_per_bin: most negatives of a bin.
        per: bins of the whole "batch", or of each "anchor". The former can't be streamed.
        seed: of the noise.

    Source: no paper; popular code calls it a uniform histogram miner. Wu et al., Sampling Matters in Deep Embedding
    Learning, ICCV 2017, says why all distances should be seen.
    """
    s, pairs = rectangle.similarity.detach(), rectangle.pairs
    shape = (1, -1) if per == "batch" else s.shape
    kept = [
        _evenly(s.reshape(shape), mask.reshape(shape), bins, most, seed).view(s.shape)
        for mask, most in ((pairs.positive, positives_per_bin), (pairs.negative, negatives_per_bin))
    ]
    return Pairs(*kept)


def _evenly(x: Tensor, mask: Tensor, bins: int, most: int, seed: int) -> Tensor:
    """At most `most` cells of each bin of each row."""
    value = x.double()
    low = torch.where(mask, value, float("inf")).amin(1, keepdim=True)
    width = torch.where(mask, value, float("-inf")).amax(1, keepdim=True) - low
    place = ((value - low) / torch.where(width > 0, width, 1.0) * bins).floor().clamp(0, bins - 1)
    key = torch.where(mask, place + uniform(x, seed), float("inf"))
    ordered = key.sort(1).values
    last = torch.searchsorted(ordered, torch.where(mask, place, 0.0)) + most - 1
    return mask & ~(key > ordered.gather(1, last.clamp(0, x.shape[1] - 1)))
