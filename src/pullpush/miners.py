"""Miners, as typed objects: `miners.multi_similarity(epsilon=0.2)`, for the option `miner` of a `Criterion`.

Each is made of a pure function of the rectangle in `pullpush/maths/miners/`; its options are in its signature.
"""

from pullpush.maths.miners import REGISTRY

__all__ = sorted(REGISTRY)

globals().update(REGISTRY)
