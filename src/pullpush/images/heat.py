"""Heat over an image: what its places add, and what they take away."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["LESS", "MORE", "heated"]

# Orange and purple of PuOr (Brewer), told apart by people with any colour vision, on light and on dark.
MORE, LESS = (230, 97, 1), (94, 60, 153)
STRONGEST = 0.8
STRIPES = 12  # on a side


def heated(image: NDArray[np.uint8], parts: NDArray[np.float64], scale: float) -> NDArray[np.uint8]:
    """An image in grey under the colours of its places: orange adds, purple takes away, and is striped besides.

    Args:
        image: [side, side, 3], a square.
        parts: [h, w], a value a place.
        scale: the value that has the full colour.
    """
    side = len(image)
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float64)[..., None]
    cells = Image.fromarray((parts / max(scale, 1e-12)).clip(-1, 1).astype(np.float32))
    value = np.asarray(cells.resize((side, side), Image.Resampling.NEAREST), np.float64)[..., None]
    down, across = np.indices((side, side))
    stripes = ((down + across) * STRIPES // side % 2 == 0)[..., None]
    opacity = STRONGEST * np.abs(value) * np.where((value < 0) & stripes, 0.35, 1.0)
    color = np.where(value < 0, LESS, MORE)
    return np.asarray((1 - opacity) * grey + opacity * color + 0.5, np.uint8)
