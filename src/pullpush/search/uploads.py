"""Bytes from strangers to pixels, with every limit checked before anything is decoded.

What is uploaded is only ever decoded to pixels; the bytes themselves are neither kept nor sent to anybody.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator

from PIL import Image, ImageFile

from pullpush.errors import UserError
from pullpush.pictures import to_rgb

MAX_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 25_000_000
MAX_SIDE = 20_000
MAX_SCANS = 64
"""Passes over all pixels that a JPEG may ask for. Encoders make about 10; a hostile file of 30 KB can hold thousands."""

FORMATS = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "GIF": b"GIF8", "WEBP": b"RIFF"}
FOREIGN = (b"PK\x03\x04", b"PK\x05\x06", b"%PDF-", b"<html", b"<script", b"<svg", b"<?php", b"\x7fELF", b"Rar!")
"""Beginnings of other formats that make a picture a second kind of file when they stand behind its end."""

_PARTS = 100_000  # of a picture; a hostile one could have millions of empty ones
_MARK = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
SCAN, END = b"\xff\xda", b"\xff\xd9"


class Refused(UserError):
    """An upload that is not taken. `status` is the HTTP status: 400, 413 or 415."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Costly(Exception):
    """More work than the caller wants to do here."""


def decode(
    data: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS, max_work: int | None = None
) -> Image.Image:
    """The picture in `data` as RGB: PNG, JPEG, GIF (its first frame) or WebP.

    Checked in this order: number of bytes; format by its first bytes; what stands behind the picture's end; scans of
    a JPEG; pixels by the header; only then is it decoded, by the decoder of that one format.

    Args:
        data: What was uploaded.
        max_bytes: Of `data`.
        max_pixels: Of the picture.
        max_work: Pixels times scans.

    Raises: `Refused` with the reason; `Costly` where it is more than `max_work`.
    """
    if len(data) > max_bytes:
        raise Refused(413, f"the upload has {len(data):,} bytes; the limit is {max_bytes:,}")
    name = image_format(data)
    if name is None:
        raise Refused(415, "the upload is not a PNG, JPEG, GIF or WebP picture")
    behind = data[_end(data, name) :].lower()
    if any(mark.lower() in behind for mark in FOREIGN):
        raise Refused(415, f"the upload holds another file behind the {name} picture")
    scans = max(1, sum(1 for mark, _ in _jpeg_marks(data) if mark == SCAN)) if name == "JPEG" else 1
    if scans > MAX_SCANS:
        raise Refused(413, f"the JPEG picture has {scans:,} scans; the limit is {MAX_SCANS}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            with Image.open(io.BytesIO(data), formats=[name]) as image:
                _check_size(image, max_pixels)
                if max_work is not None and image.width * image.height * scans > max_work:
                    raise Costly
                return to_rgb(image)
    except (Refused, Costly):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own, larger limit
        raise Refused(413, f"the picture has too many pixels; the limit is {max_pixels:,}") from error
    except MemoryError as error:
        raise Refused(413, f"the {name} picture takes too much memory to decode") from error
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on damaged files
        raise Refused(400, f"the {name} picture is damaged or cut off") from error


def image_format(data: bytes) -> str | None:
    """The name of the format by its first bytes, or None."""
    for name, magic in FORMATS.items():
        if data.startswith(magic) and (name != "WEBP" or data[8:12] == b"WEBP"):
            return name
    return None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise Refused(
            413, f"the picture has {width} x {height} pixels; the limit is {max_pixels:,} ({MAX_SIDE:,} a side)"
        )
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("LOAD_TRUNCATED_IMAGES is set; cut-off pictures would pass")


def _end(data: bytes, name: str) -> int:
    """Where the picture ends and anything else may begin; the length of `data` where that cannot be told."""
    try:
        if name == "PNG":
            return _png_end(data)
        if name == "WEBP":
            return 8 + struct.unpack("<I", data[4:8])[0]
        if name == "JPEG":
            return _jpeg_end(data)
        return data.rfind(b"\x00\x3b") + 2 or len(data)
    except (struct.error, IndexError):
        return len(data)


def _png_end(data: bytes) -> int:
    place = 8
    for _ in range(_PARTS):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        place += 12 + length
        if kind == b"IEND":
            return place
    return len(data)


def _jpeg_end(data: bytes) -> int:
    return next((end for mark, end in _jpeg_marks(data) if mark == END), len(data))


def _jpeg_marks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Each mark up to the end of the picture, and the place behind it. Segments carry their length; in the coded data
    0xFF is followed by 0x00 or a restart mark."""
    place = 2
    for _ in range(_PARTS):
        mark = _MARK.search(data, place)
        if mark is None:
            return
        yield mark[0], mark.end()
        length = data[mark.end() : mark.end() + 2]
        if mark[0] == END or len(length) < 2:
            return
        place = mark.end() + struct.unpack(">H", length)[0]
    raise Refused(413, f"the JPEG picture has more than {_PARTS:,} parts")
