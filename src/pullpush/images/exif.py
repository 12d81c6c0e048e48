"""Of an image's metadata, its orientation and nothing else.

Pillow reads every entry of an EXIF block into memory; 65,000 entries that all point at the same ten megabytes make
hundreds of gigabytes of them. So no EXIF reaches Pillow's reader: what it would read while opening a file is hidden
from it, and the orientation is looked up here.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress

from PIL import Image

__all__ = ["check_tiff", "hide_exif", "orientation_in", "upright"]

ORIENTATION, SUB_DIRECTORIES = 0x0112, (0x8769, 0x8825, 0xA005)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Segments that Pillow parses while it opens a JPEG: EXIF (for the resolution) and the list of a multi-picture file. In
# the coded data 0xFF is never followed by these bytes, so nothing else is hit.
_SEGMENTS = re.compile(rb"(\xff\xe1(..)Exif\x00\x00|\xff\xe2(..)MPF\x00)", re.DOTALL)
# The entry of the item list that names an EXIF item, in versions 2 and 3 of the box.
_ITEMS = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')

Entry = tuple[int, int, int, bytes]


def hide_exif(data: bytes, name: str) -> tuple[bytes, bytes]:
    """The file without what Pillow would read of its EXIF while opening it, and the EXIF block of a JPEG.

    PNG and WebP keep theirs: Pillow reads it only when asked. In AVIF and HEIC the orientation is a property of the
    image, and EXIF must not turn it a second time.
    """
    if name == "AVIF":
        return _ITEMS.sub(rb"\1skip", data), b""
    if name != "JPEG":
        return data, b""
    exif = b""
    for segment in _SEGMENTS.finditer(data):
        if segment[2] is not None and not exif:
            exif = data[segment.end() : segment.start() + 2 + int.from_bytes(segment[2], "big")]
    return _SEGMENTS.sub(lambda segment: segment[0][:4] + b"none\x00\x00"[: len(segment[0]) - 4], data), exif


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF or XMP orientation says."""
    image.load()  # a PNG may have its EXIF behind the pixels; a TIFF is turned by Pillow here
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def orientation_in(exif: bytes) -> int:
    """The orientation (1 to 8) in an EXIF block, 1 where it has none or is damaged."""
    with suppress(struct.error, ValueError):  # a damaged block is no reason to refuse an image whose pixels are whole
        data = re.sub(rb"^(?:Exif\x00\x00){1,2}", b"", exif)
        order, big, place = _header(data)
        for tag, kind, _, value in _entries(data, order, big, place):
            if tag == ORIENTATION and kind in (3, 4):
                return int(struct.unpack_from(order + ("H" if kind == 3 else "I"), value)[0])
    return 1


def check_tiff(data: bytes) -> None:
    """Refuses a TIFF whose directory announces more than the file holds: its entries share their bytes.

    Raises:
        ValueError: it announces more.
    """
    order, big, place = _header(data)
    wide, total, waiting, seen = ("Q" if big else "I"), 0, [place], set()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        for tag, kind, count, value in _entries(data, order, big, place):
            total += count * _SIZES.get(kind, 0)
            if total > 2 * len(data):
                raise ValueError("the entries of its directory share their bytes")
            if tag in SUB_DIRECTORIES:
                waiting.append(int(struct.unpack_from(order + wide, value)[0]))


def _orientation(image: Image.Image) -> int:
    exif, raw = image.info.get("exif"), image.info.get("Raw profile type exif")
    if isinstance(raw, str) and not exif:
        try:
            exif = bytes.fromhex("".join(raw.split("\n")[3:]))
        except ValueError:  # damaged: as if there were none
            exif = b""
    if not isinstance(exif, bytes):  # set by hand, or the tags of a TIFF, whose directory was checked
        return int(image.getexif().get(ORIENTATION, 1))
    xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    turned = orientation_in(exif)
    written = _XMP.search(xmp.encode() if isinstance(xmp, str) else xmp)
    return int(written[1]) if turned == 1 and written else turned


def _header(data: bytes) -> tuple[str, bool, int]:
    """Byte order, whether it is a BigTIFF, and where the first directory lies."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("it has no TIFF header")
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    return order, big, int(struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0])


def _entries(data: bytes, order: str, big: bool, place: int) -> Iterator[Entry]:
    """Tag, type, count and value field of each entry of a directory, as far as the data go."""
    layout, first = (order + "HHQ8s", 8) if big else (order + "HHI4s", 2)
    size = struct.calcsize(layout)
    count = int.from_bytes(data[place : place + first], "little" if order == "<" else "big")
    for number in range(count):
        at = place + first + number * size
        if at + size > len(data):
            return
        yield struct.unpack_from(layout, data, at)
