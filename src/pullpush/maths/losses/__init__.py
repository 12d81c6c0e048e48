"""Losses: pure functions of the rectangle. One concept a file; `REGISTRY` finds every name in a file's `__all__`.

    loss(similarity, pairs, *, options) -> AnchorLoss(total, count)

A loss, or a miner, may also name among its keyword arguments, and is then given, `reference_similarity` [references,
references], `similarity_name` (as in `SIMILARITIES`) and `dim` of the embeddings; `traits` tells the rest.
"""

from pullpush.maths.losses.base import AnchorLoss, Traits, per_anchor, traits, traits_of, value
from pullpush.maths.registry import collect

__all__ = ["REGISTRY", "AnchorLoss", "Traits", "per_anchor", "traits", "traits_of", "value"]

REGISTRY = collect(__name__, __path__, skip={"base"})
