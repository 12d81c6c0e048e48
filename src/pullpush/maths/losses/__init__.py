"""Losses: pure functions of the rectangle. One concept a file; `REGISTRY` finds every name in a file's `__all__`.

    @loss()
    def NAME(rectangle: Rectangle, *, options) -> AnchorLoss

The decorator turns it into what chooses its options, `NAME(options) -> Loss`; see `pullpush.maths.choice`.
"""

from pullpush.maths.registry import collect

__all__ = ["REGISTRY"]

REGISTRY = collect(__name__, __path__, skip={"base"})
