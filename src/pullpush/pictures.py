"""From whatever is in an image file to RGB, in one way for training, evaluation and search.

The rooms `data` and `encoders` do not know each other, and a model must see at query time what it saw in training:
so the one decoding stands here, open to all.
"""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from pullpush.errors import UserError


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as 8-bit RGB.

    The first frame of an animation, upright by its EXIF orientation, transparency composited on white, CMYK and
    palettes converted. 16-bit grey is scaled so that 65,535 is white; 32-bit integer and float grey have no fixed
    white, so their own maximum is white and everything below 0 is black.

    Raises: what PIL raises for a file that it cannot decode (`open_rgb` makes a `UserError` of it).
    """
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled_grey(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def open_rgb(file: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """The image of a path or of an open binary file, decoded whole, as `to_rgb` gives it.

    Raises: `UserError` naming the file and the reason when it is missing, truncated or not an image.
    """
    name = getattr(file, "name", "(bytes)") if hasattr(file, "read") else os.fspath(file)
    try:
        with Image.open(file) as image:
            return to_rgb(image)
    except FileNotFoundError:
        raise UserError(f"Image not found: {name}. Check the path.") from None
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on damaged files
        raise UserError(f"Cannot read the image {name}: {_reason(error)}. Replace or remove it.") from error


def resize_and_center(image: Image.Image, size: int) -> np.ndarray:
    """The central square of an RGB image at `size` x `size`: uint8 `[size, size, 3]`.

    The shorter side fits, the aspect is kept, the ends of the longer side fall away; bicubic with antialiasing.
    """
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    # Cropping by `box` first keeps a 1 x 100,000 image from being blown up before it is cut.
    square = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(square)


def _scaled_grey(image: Image.Image) -> Image.Image:
    grey = np.asarray(image).astype(np.float64)
    white = 65535.0 if image.mode.startswith("I;16") else float(grey.max())
    return Image.fromarray(np.rint(grey.clip(0) * (255.0 / max(white, 1e-12))).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is not an image of a known format"
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error).rstrip(".") or type(error).__name__
