"""Pairs of triangles with a large angle."""

import math

from torch import Tensor

from pullpush.bounds import Degrees
from pullpush.maths.losses.base import traits
from pullpush.maths.pairs import Pairs
from pullpush.maths.sphere import as_cosine
from pullpush.maths.through import angles_above

__all__ = ["angular"]


@traits(unit_length=True)
def angular(
    similarity: Tensor,
    pairs: Pairs,
    *,
    reference_similarity: Tensor,
    similarity_name: str = "cosine",
    degrees: Degrees = 20.0,
) -> Pairs:
    r"""Keeps the pairs of triplets that are seen from the negative under a large angle.

    $$ \exists n \;\text{or}\; p: \quad \arctan \frac{|x_i - x_p|}{2 |x_n - (x_i + x_p) / 2|} > \alpha $$

    for unit vectors; the angle is half of the one under which anchor and positive are seen, were they equally far.

    Args:
        similarity: [anchors, references].
        pairs: masks of the same shape.
        reference_similarity: [references, references], of the same kind.
        similarity_name: of which kind, as in `SIMILARITIES`.
        degrees: alpha. Ours, as in popular code: the paper mines nothing.

    Source: Wang et al., Deep Metric Learning with Angular Loss, ICCV 2017: its angle, as a condition.
    """
    s, r = as_cosine(similarity, similarity_name), as_cosine(reference_similarity, similarity_name)
    return Pairs(*angles_above(s, r, *pairs, math.tan(math.radians(degrees)) ** 2))
