"""Bytes from strangers to pixels, with every limit checked before anything is decoded.

What is uploaded is only ever decoded to pixels; the bytes themselves are neither kept nor sent to anybody.
"""

import re
from collections.abc import Iterator

from PIL import Image, ImageFile

from pullpush.errors import UserError
from pullpush.images import TooLarge, image_format
from pullpush.images import decode as decode_image

__all__ = ["FORMATS", "MAX_BYTES", "MAX_PIXELS", "MAX_SCANS", "Costly", "Refused", "decode"]

MAX_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 25_000_000
MAX_SIDE = 20_000
MAX_SCANS = 64
"""Passes over all pixels that a JPEG may ask for. Encoders make about 10; a hostile file of 30 KB holds thousands."""

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "HEIF")
NAMES = "PNG, JPEG, GIF, WebP, AVIF or HEIC"
FOREIGN = (b"PK\x03\x04", b"PK\x05\x06", b"%PDF-", b"<html", b"<script", b"<svg", b"<?php", b"\x7fELF", b"Rar!")
"""Beginnings of other formats that make an image a second kind of file when they stand behind its end."""

_PARTS = 100_000  # of an image; a hostile one could have millions of empty ones
_MARK = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
SCAN, END = b"\xff\xda", b"\xff\xd9"


class Refused(UserError):
    """What a client sent is not taken: the HTTP status, and the code of the answer. `close`: the connection too."""

    def __init__(self, status: int, message: str, code: str = "refused", close: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.close = status, code, close


class Costly(Exception):
    """More work than the caller wants to do here."""


def decode(data: bytes, max_work: int | None = None) -> Image.Image:
    """The image in `data` as RGB, the first frame of an animation; its format is one of `FORMATS`.

    Checked in this order: number of bytes; format by its first bytes; what stands behind the image's end; scans of
    a JPEG; pixels by the header; only then is it decoded, by the decoder of that one format.

    Args:
        data: What was uploaded.
        max_work: Pixels times scans; more is `Costly`.

    Raises: `Refused` with the reason; `Costly`.
    """
    if len(data) > MAX_BYTES:
        raise Refused(413, f"the upload has {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    name = image_format(data)
    if name not in FORMATS:
        raise Refused(415, f"the upload is not an image in one of the formats {NAMES}")
    behind = data[_end(data, name) :].lower()
    if any(mark.lower() in behind for mark in FOREIGN):
        raise Refused(415, f"the upload holds another file behind the {name} image")
    scans = max(1, sum(1 for mark, _ in _jpeg_marks(data) if mark == SCAN)) if name == "JPEG" else 1
    if scans > MAX_SCANS:
        raise Refused(413, f"the JPEG image has {scans:,} scans; the limit is {MAX_SCANS}")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("LOAD_TRUNCATED_IMAGES is set; cut-off images would pass")
    limit = MAX_PIXELS if max_work is None else min(MAX_PIXELS, max_work // scans)
    try:
        return decode_image(data, formats=[name], max_pixels=limit, max_side=MAX_SIDE)
    except TooLarge as error:
        if limit < MAX_PIXELS:
            raise Costly from error
        raise Refused(413, f"the image has too many pixels: {error}") from error
    except MemoryError as error:
        raise Refused(413, f"the {name} image takes too much memory to decode") from error
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on damaged files
        raise Refused(400, f"the {name} image is damaged or cut off") from error


def _end(data: bytes, name: str) -> int:
    """Where the image ends and anything else may begin; the length of `data` where that cannot be told."""
    if name == "PNG":
        return _png_end(data)
    if name == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if name == "JPEG":
        return next((end for mark, end in _jpeg_marks(data) if mark == END), len(data))
    if name in ("AVIF", "HEIF"):
        return _boxes_end(data)
    return data.rfind(b"\x00\x3b") + 2 or len(data)


def _png_end(data: bytes) -> int:
    place = 8
    for _ in range(_PARTS):
        kind = data[place + 4 : place + 8]
        if len(kind) < 4:
            break
        place += 12 + int.from_bytes(data[place : place + 4])
        if kind == b"IEND":
            return place
    return len(data)


def _jpeg_marks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Each mark up to the end of the image, and the place behind it. Segments carry their length; in the coded data
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
        place = mark.end() + int.from_bytes(length)
    raise Refused(413, f"the JPEG image has more than {_PARTS:,} parts")


def _boxes_end(data: bytes) -> int:
    """A box begins with its length, which is 1 where eight bytes of it follow the name, and 0 for all that is left."""
    place = 0
    for _ in range(_PARTS):
        if place + 8 > len(data):
            return place
        length = int.from_bytes(data[place : place + 4])
        if length == 1:
            length = int.from_bytes(data[place + 8 : place + 16])
        if length < 8 or not data[place + 4 : place + 8].isalnum():
            return len(data) if length == 0 else place
        place += length
    return len(data)
