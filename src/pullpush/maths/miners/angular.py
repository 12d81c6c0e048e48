"""Pairs of triangles with a large angle."""

import math

from pullpush.bounds import Degrees
from pullpush.maths.angles import as_cosine
from pullpush.maths.choice import miner
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle
from pullpush.maths.triplets import angles_above

__all__ = ["angular"]


@miner(unit_length=True, wants_references=True)
def angular(
    rectangle: Rectangle,
    *,
    degrees: Degrees = 20.0,
) -> Pairs:
    r"""Keeps the pairs of triplets that are seen from the negative under a large angle.

    $$ \exists n \;\text{or}\; p: \quad \arctan \frac{|x_i - x_p|}{2 |x_n - (x_i + x_p) / 2|} > \alpha $$

    for unit vectors; the angle is half of the one under which anchor and positive are seen, were they equally far.

    Args:
        rectangle: [anchors, references].
        degrees: alpha. Ours, as in popular code: the paper mines nothing.

    Source: Wang et al., Deep Metric Learning with Angular Loss, ICCV 2017: its angle, as a condition.
    """
    s, r = (as_cosine(x, rectangle.similarity_name) for x in (rectangle.similarity, rectangle.among()))
    return Pairs(*angles_above(s, r, *rectangle.pairs, math.tan(math.radians(degrees)) ** 2))
