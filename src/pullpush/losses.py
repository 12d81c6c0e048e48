"""Losses, as typed objects: `losses.circle(margin=0.4)` checks its options, prints itself, and goes into a `Criterion`.

Each is made of a pure function of the rectangle in `pullpush/maths/losses/`; its options are in its signature, its
formula and source in its docstring.
"""

from pullpush.maths.losses import REGISTRY

__all__ = sorted(REGISTRY)

globals().update(REGISTRY)
