"""Regularisers: pure functions of the embeddings, added to a loss. `REGISTRY` finds every name in a file's `__all__`.

    @regularizer()
    def NAME(embeddings, references, pairs, *, options) -> AnchorLoss(total, count)

Embeddings are the anchors [anchors, dim] as the encoder gives them, references the columns [references, dim].
"""

from pullpush.maths.registry import collect

__all__ = ["REGISTRY"]

REGISTRY = collect(__name__, __path__, skip=set())
