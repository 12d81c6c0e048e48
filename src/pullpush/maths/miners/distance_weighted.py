"""Negatives drawn evenly over all distances."""

from typing import Annotated

import torch

from pullpush.bounds import Bound, Seed
from pullpush.maths.angles import as_cosine
from pullpush.maths.choice import miner
from pullpush.maths.noise import uniform
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle

__all__ = ["distance_weighted"]

# Between unit vectors.
Distance = Annotated[float, Bound(0, 2, above=True)]


@miner(unit_length=True)
def distance_weighted(
    rectangle: Rectangle,
    *,
    closest: Distance = 0.5,
    farthest: Distance = 1.4,
    seed: Seed = 0,
) -> Pairs:
    r"""Keeps as many negatives of an anchor as it has positives, drawn with weights that make all distances as likely.

    $$ \Pr(n) \propto \min\big(\lambda, q(d_{in})^{-1}\big) \qquad
       q(d) \propto d^{D - 2} \Big(1 - \frac{d^2}{4}\Big)^{(D - 3) / 2} $$

    where q is the density of distances between points spread evenly on the unit sphere in D dimensions. Drawn without
    replacement (the largest of log weight plus Gumbel noise). Without it almost every negative is at distance 1.4.
    The noise comes from the similarities themselves, see `pullpush.maths.noise.uniform`: nothing has to be saved.

    Args:
        rectangle: [anchors, references], of unit vectors.
        closest: distance below which weights no longer grow, which sets lambda. 0.5, as in the authors' code.
        farthest: distance from which on none is drawn: the margin loss of the paper is 0 there. 1.4, as in their code.
        seed: of the noise.

    Source: Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017.
    """
    s, pairs = rectangle.similarity.detach(), rectangle.pairs
    distance = (2 - 2 * as_cosine(s, rectangle.similarity_name).double()).clamp(min=0).sqrt()
    clipped = distance.clamp(min=closest, max=2 - 1e-9)
    weight = (2 - rectangle.dim) * clipped.log() - (rectangle.dim - 3) / 2 * (1 - clipped**2 / 4).log()
    allowed = pairs.negative & ~(distance >= farthest)
    key = torch.where(allowed, weight - (-uniform(s, seed).log()).log(), float("-inf"))
    wanted = pairs.positive.sum(1, keepdim=True)
    ordered = key.sort(1, descending=True).values
    last = ordered.gather(1, (wanted - 1).clamp(min=0))
    return Pairs(pairs.positive, allowed & (wanted > 0) & ~(key < last))
