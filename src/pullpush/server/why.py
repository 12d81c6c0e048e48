"""Why an item matches a query: heat maps of both as images that a page shows."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pullpush.encoders.model import Model
from pullpush.images import resize_and_center
from pullpush.images.heat import heated

__all__ = ["Why", "why"]

SIDE = 256
"""Pixels of an image that is shown."""


@dataclass(frozen=True)
class Why:
    """The cosine of two images as they are, without test views, and both with what each place adds to it (orange) or
    takes away (purple, striped), WebP as data URIs. The places of an image add up to the cosine: by themselves where
    `exact`; `scale` is the share that has the full colour."""

    score: float
    exact: bool
    method: str
    scale: float
    query: str
    item: str


def why(model: Model, query: NDArray[np.uint8], item: NDArray[np.uint8]) -> Why:
    """Of two images, uint8 `[side, side, 3]`. The cosine is that of the images as they are, without test views."""
    match = model.explain(query, item)
    scale = float(max(np.abs(match.map_a).max(), np.abs(match.map_b).max()))
    shown = (_uri(pixels, parts, scale) for pixels, parts in ((query, match.map_a), (item, match.map_b)))
    return Why(match.score, match.exact, match.method, scale, *shown)


def _uri(pixels: NDArray[np.uint8], parts: NDArray[np.float64], scale: float) -> str:
    stream = io.BytesIO()
    shown = heated(resize_and_center(Image.fromarray(pixels), SIDE), parts, scale)
    Image.fromarray(shown).save(stream, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
