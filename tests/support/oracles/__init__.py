"""The same losses once more, in float64 and plain Python loops, written from the papers and not from the code.

    def my_loss(similarity, positive, negative, *, margin=0.5): -> float

An oracle has the name, the options and the defaults of its loss; its file lists it in `__all__`. It takes
[anchors, references], a list of lists of floats and two of bools, and returns the value after averaging, 0.0 where
nothing counts. What the tests read besides:

- `CASES = {"my_loss": [{"margin": 0.1}, ...]}` in the same file: options to test besides the defaults.
- The oracle of a loss that takes `reference_similarity` takes it too, [references, references].
- An oracle with the keyword `weights_at` is of a loss that takes some factors as constants in the gradient
  (detached): it computes these from `weights_at` and the rest from `similarity`; None means the same array. Its
  differences are then the gradient, though not the slope of the value.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

__all__ = ["CASES", "ORACLES"]

ORACLES: dict[str, Callable[..., float]] = {}
CASES: dict[str, list[dict[str, Any]]] = {}

for _module in pkgutil.iter_modules(__path__):
    _file = importlib.import_module(f"{__name__}.{_module.name}")
    ORACLES |= {name: vars(_file)[name] for name in _file.__all__}
    CASES |= getattr(_file, "CASES", {})
