"""Regularisers, as typed objects: `regularizers.vicreg(target=2.0)`, for a `Regularizer`.

Each is made of a pure function of the embeddings in `pullpush/maths/regularizers/`; its options are in its signature.
"""

from pullpush.maths.regularizers import REGISTRY

__all__ = sorted(REGISTRY)

globals().update(REGISTRY)
