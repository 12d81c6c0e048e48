"""The decoder: bytes, a path, an open file or a PIL image to 8-bit RGB."""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from pullpush.errors import UserError
from pullpush.images.exif import check_tiff, hide_exif, upright
from pullpush.images.files import archived, read_regular
from pullpush.images.formats import FORMATS, image_format

__all__ = [
    "DECODE_ERRORS",
    "MAX_PIXELS",
    "Fit",
    "TooLarge",
    "Unreadable",
    "any_rgb",
    "decode",
    "fit_of",
    "open_rgb",
    "opened",
    "resize_and_center",
    "to_rgb",
]

MAX_PIXELS = 178_956_970
"""Of one image: where Pillow's own limit lies, for the formats that it does not decode too."""
WHITES = (1.0, 255.0, 65535.0)
Fit = Literal["crop", "squash", "crop bilinear", "squash bilinear"]
"""How an image becomes a square: see `resize_and_center`."""
RESAMPLINGS = {"": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, MemoryError, ArithmeticError, LookupError, TypeError, RuntimeError),
    *(AttributeError, AssertionError, struct.error, zlib.error, ImageCms.PyCMSError),
)
"""What decoders raise on files that are not the images they claim to be."""

# A hostile file can cause tens of thousands of warnings about its metadata, of which nothing is used.
for _module in ("Image", "TiffImagePlugin", "PngImagePlugin"):
    warnings.filterwarnings("ignore", module=rf"PIL\.{_module}$")


class Unreadable(UserError):
    """An image that cannot be decoded; `reason` says why in a few words."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read the image {name}: {reason}; replace it or leave it out")
        self.reason = reason


class TooLarge(ValueError):
    """An image of more pixels than the limit."""


def decode(
    data: bytes,
    *,
    side: int | None = None,
    formats: Iterable[str] = FORMATS,
    max_pixels: int = MAX_PIXELS,
    max_side: int = MAX_PIXELS,
) -> Image.Image:
    """The image in `data` as 8-bit RGB, as `to_rgb` gives it; `side` as of `open_rgb`, other Args and Raises as of
    `opened`."""
    image = opened(data, formats=formats, max_pixels=max_pixels, max_side=max_side)
    if side is not None:
        image.draft(None, (side, side))  # only a JPEG can
    return to_rgb(image)


def open_rgb(file: str | os.PathLike[str] | BinaryIO, side: int | None = None) -> Image.Image:
    """The image of a path, or of an open binary file, as 8-bit RGB; `FILE-ubyte.gz#7` is image 7 of an idx archive.

    Args:
        file: what to read.
        side: a JPEG may come at 1/2, 1/4 or 1/8 of its width and height, as long as both stay at least so many pixels:
            a photograph of 12 megapixels then costs a fifth. Resized to `side`, it differs from the whole image by less
            than 1 grey level on average. For random views and checks; what is compared with other images is read whole,
            since an image that comes decoded (an array, an upload that was kept) has no such scale. None: whole.

    Raises:
        Unreadable: with the file and the reason: missing, no regular file, truncated, no image.
    """
    name = os.fspath(file) if isinstance(file, str | os.PathLike) else getattr(file, "name", "(bytes)")
    try:
        if not isinstance(file, str | os.PathLike):
            return decode(file.read(), side=side)
        inside = archived(file)
        return decode(read_regular(file), side=side) if inside is None else Image.fromarray(inside).convert("RGB")
    except DECODE_ERRORS as error:
        raise Unreadable(str(name), reason(error)) from error


def any_rgb(image: str | os.PathLike[str] | Image.Image | NDArray[Any], place: str) -> Image.Image:
    """A path, a PIL image or a uint8 array as 8-bit RGB.

    Args:
        image: an array is `[h, w]`, `[h, w, 3]` or `[h, w, 4]`.
        place: what the image is called in messages where it has no name of its own.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    if isinstance(image, str | os.PathLike):
        return open_rgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not image.size or image.ndim < 2 or image.shape[2:] not in ((), (3,), (4,)):
            shape = f"{image.dtype} {list(image.shape)}"
            raise UserError(f"image {place} is an array of {shape}: give uint8 [h, w] or [h, w, 3], values 0 to 255")
    elif not isinstance(image, Image.Image):
        raise UserError(f"image {place} is a {type(image).__name__}: give paths, PIL images or uint8 arrays")
    try:
        return to_rgb(Image.fromarray(image) if isinstance(image, np.ndarray) else image)
    except DECODE_ERRORS as error:  # a file that was opened lazily is decoded here
        raise Unreadable(str(getattr(image, "filename", "") or place), reason(error)) from error


def opened(
    data: bytes, *, formats: Iterable[str] = FORMATS, max_pixels: int = MAX_PIXELS, max_side: int = MAX_PIXELS
) -> Image.Image:
    """The image in `data`, its header read and its pixels not decoded yet; `to_rgb` does that.

    The format is told by the first bytes, never by a name, and only the decoder of that format sees the data.

    Args:
        data: the file.
        formats: those that are taken, of `FORMATS`.
        max_pixels, max_side: limits of width x height and of either, by the header, before anything is decoded.

    Raises:
        TooLarge: more pixels than the limits.
        ValueError: another format; and what decoders raise (`DECODE_ERRORS`).
    """
    if not data:
        raise ValueError("the file is empty (0 bytes)")
    name = image_format(data)
    if name is None or name not in formats:
        raise UnidentifiedImageError("not an image" if name is None else f"{name} images are not taken here")
    if name == "HEIF":
        return _heif(data, max_pixels, max_side)
    if name == "TIFF":
        check_tiff(data)
    data, exif = hide_exif(data, name)
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
    except Image.DecompressionBombError as error:
        raise TooLarge(str(error)) from error
    _check_size(image.size, max_pixels, max_side)
    if exif:
        image.info["exif"] = exif
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as 8-bit RGB: what a person would see.

    - The first frame of an animation, upright by its EXIF or XMP orientation.
    - Transparency is composited on white; palettes, CMYK, YCbCr, LAB and HSV are converted.
    - 16-bit grey (`I;16`) is scaled so that 65,535 is white.
    - 32-bit integer and float grey (`I`, `F`) have no fixed white. White is the first of 1, 255 and 65,535 that no
      value exceeds; where values are negative or exceed all three, the smallest becomes black and the largest white.

    Raises:
        ValueError: pixels that are no finite numbers; and what PIL raises for a file that it cannot decode
            (`DECODE_ERRORS`).
    """
    if image.tell():
        image.seek(0)
    image = upright(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_grey(np.asarray(image), image.mode).convert("RGB")
    if image.mode == "LAB":
        return _from_lab(image)
    if image.has_transparency_data:
        # La has no way to RGBA but through LA.
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def fit_of(squash: bool, bilinear: bool) -> Fit:
    """The fit by its two parts."""
    if squash:
        return "squash bilinear" if bilinear else "squash"
    return "crop bilinear" if bilinear else "crop"


def resize_and_center(image: Image.Image, size: int, fit: Fit = "crop") -> NDArray[np.uint8]:
    """An RGB image as a square of `size` x `size`, resized with antialiasing: uint8 `[size, size, 3]`.

    - `crop`: the central square. The shorter side fits, the aspect is kept, the ends of the longer side fall away.
    - `squash`: the whole image, whatever its aspect.

    Bicubic, or bilinear where the fit says so.
    """
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    how, _, resample = fit.partition(" ")
    # Cropping by `box` first keeps a 1 x 100,000 image from being blown up before it is cut.
    box = (left, top, left + side, top + side) if how == "crop" else (0, 0, width, height)
    return np.asarray(image.resize((size, size), RESAMPLINGS[resample], box=box))


def reason(error: BaseException) -> str:
    """Why an image cannot be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    if isinstance(error, EOFError):
        return "the file ends too early"
    if isinstance(error, UnidentifiedImageError) and "<_io" in str(error):
        return "its header is damaged"
    return getattr(error, "strerror", None) or str(error).split("\n")[0].rstrip(".") or type(error).__name__


def _heif(data: bytes, max_pixels: int, max_side: int) -> Image.Image:
    try:
        import pi_heif
    except ImportError as error:
        raise ValueError("HEIC needs the package pi-heif: pip install pi-heif") from error
    file = pi_heif.open_heif(io.BytesIO(data))
    _check_size(file.size, max_pixels, max_side)
    image: Image.Image = file.to_pillow()
    image.info = {}  # the orientation has been applied; its EXIF must not turn it again
    image.format = "HEIF"
    return image


def _check_size(size: tuple[int, int], max_pixels: int, max_side: int) -> None:
    if size[0] * size[1] > max_pixels or max(size) > max_side:
        sides = "" if max_side == MAX_PIXELS else f" ({max_side:,} a side)"
        raise TooLarge(f"it has {size[0]} x {size[1]} pixels; the limit is {max_pixels:,}{sides}")


def _from_grey(grey: NDArray[Any], mode: str) -> Image.Image:
    grey = grey.astype(np.float64)
    low, high = float(grey.min()), float(grey.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("its pixels hold values that are not finite numbers")
    whites = WHITES[-1:] if mode.startswith("I;16") else WHITES
    white = next((white for white in whites if high <= white), None)
    if white is None or low < 0:
        grey, white = grey - low, max(high - low, 1e-12)
    return Image.fromarray(np.rint(grey * (255.0 / white)).astype(np.uint8))


def _from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    assert converted is not None  # only None where it is done in place
    return converted
