"""The formats that are read: no others reach a decoder, whatever a file is called."""

import re

__all__ = ["FORMATS", "NAMES", "SUFFIXES", "image_format"]

FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""Pillow's name of a format -> the suffixes of its files. HEIF is decoded by pi-heif, the others by Pillow itself;
formats that start another program (EPS: Ghostscript) or draw what they are told to (WMF) are not among them."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000, AVIF or HEIC"

_MAGIC = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\x00|MM\x00[*+]",
    "PPM": rb"P[1-6Ffy0]",
    "JPEG2000": rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  \r\n\x87\n",
}
_BRANDS = {"AVIF": (b"avif", b"avis"), "HEIF": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")}


def image_format(data: bytes) -> str | None:
    """The format (a name of `FORMATS`) that the first bytes of a file tell, or None; 64 bytes are enough."""
    for name, magic in _MAGIC.items():
        if re.match(magic, data, re.DOTALL):
            return name
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), len(data))
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    return next((name for name, known in _BRANDS.items() if brands & set(known)), None)
