"""From a path to an 8-bit RGB picture, whatever kind of image lies there."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pullpush.errors import UserError

_IDX = re.compile(r"^(?P<file>.*ubyte(?:\.gz)?)#(?P<row>\d+)$")

DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, MemoryError, ArithmeticError, LookupError, TypeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises on files that are not the images they claim to be."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any Pillow image to 8-bit RGB.

    The first frame counts; EXIF orientation is applied; transparency is composited on white; 16-bit grey is scaled
    (65535 becomes 255), not clipped; float images in [0, 1] are scaled by 255, other float and 32-bit ones are
    stretched from their smallest to their largest value.
    """
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return _from_deep(np.asarray(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        # La has no way to RGBA but through LA
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_deep(values: np.ndarray) -> Image.Image:
    values = values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("the pixels hold values that are not numbers")
    if low >= 0 and high <= 1:
        values = values * 255
    elif low >= 0 and high <= 65535:
        values = values / 257
    else:
        values = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


def decode(path: str | Path) -> Image.Image:
    """The image at `path` in 8-bit RGB. `FILE-ubyte.gz#7` is picture 7 of an idx archive.

    Raises what Pillow and the system raise (`DECODE_ERRORS`); `open_image` puts it into words.
    """
    part = _IDX.match(str(path))
    if part:
        images = read_idx(part["file"])
        row = int(part["row"])
        if row >= len(images):
            raise ValueError(f"the archive holds {len(images)} pictures only")
        return Image.fromarray(images[row]).convert("RGB")
    with Image.open(path) as image:
        image.load()
        return to_rgb(image)


def open_image(path: str | Path) -> Image.Image:
    """The image at `path` in 8-bit RGB; a UserError that names the path and the reason when it cannot be decoded."""
    try:
        return decode(path)
    except DECODE_ERRORS as error:
        raise UserError(f"cannot read the image {path}: {reason(error)}. Replace it or leave it out.") from error


def reason(error: BaseException) -> str:
    """Why an image cannot be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    if isinstance(error, IsADirectoryError):
        return "this is a folder"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, EOFError):
        return "the file ends too early"
    return getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__


@lru_cache(maxsize=8)
def read_idx(path: str) -> np.ndarray:
    """The array in an idx file (plain or .gz), the format of MNIST and Fashion-MNIST; unsigned bytes only."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rb") as file:
        raw = file.read()
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError("not an idx file of unsigned bytes")
    shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4).astype(int)
    start = 4 + 4 * raw[3]
    if len(raw) - start != int(np.prod(shape)):
        raise ValueError(f"the idx file announces {int(np.prod(shape))} bytes and holds {len(raw) - start}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
