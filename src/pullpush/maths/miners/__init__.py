"""Miners: pure functions of the rectangle that keep some of its pairs.

    @miner()
    def NAME(rectangle: Rectangle, *, options) -> Pairs

One concept a file; `REGISTRY` finds every name in a file's `__all__`.
"""

from pullpush.maths.registry import collect

__all__ = ["REGISTRY"]

REGISTRY = collect(__name__, __path__, skip=set())
