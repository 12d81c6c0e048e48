"""Uploads that a server must refuse, each with the status it should answer; all made here."""

from __future__ import annotations

import io
import struct
import zlib

from tests.support.fake import picture


def good(name: str = "PNG", colour: str = "red", seed: int = 1) -> bytes:
    buffer = io.BytesIO()
    picture(colour, seed).save(buffer, name, **({"quality": 95} if name in ("JPEG", "WEBP") else {}))
    return buffer.getvalue()


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that announces a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HOSTILE: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 415),
    "text": (b"hello", 415),
    "svg": (SVG, 415),
    "html": (b"<html><script>alert(1)</script></html>", 415),
    "zip": (b"PK\x03\x04" + bytes(100), 415),
    "tiff": (b"II*\x00" + bytes(100), 415),
    "magic only": (b"\x89PNG\r\n\x1a\n", 400),
    "png magic and html": (b"\x89PNG\r\n\x1a\n<html><script>", 400),
    "gif and javascript": (b"GIF89a/*" + b"a" * 50 + b"*/=1;alert(1)", 400),
    "truncated png": (good()[:-200], 400),
    "truncated jpeg": (good("JPEG")[:300], 400),
    "truncated webp": (good("WEBP")[:60], 400),
    "png bomb": (png_header(60_000, 60_000, bytes(1000)), 413),
    "long png": (png_header(25_000, 10, bytes(1000)), 413),
    "png with lying size": (png_header(4_000, 4_000, bytes(1000)), 400),
    "png and zip": (good() + b"PK\x03\x04" + bytes(50), 415),
    "png and html": (good() + b"<script>alert(1)</script>", 415),
    "jpeg and svg": (good("JPEG") + SVG, 415),
    "webp and pdf": (good("WEBP") + b"%PDF-1.7", 415),
    "gif and php": (good("GIF") + b"<?php system('x');", 415),
    "too large": (good() + bytes(10 * 1024 * 1024), 413),
    "many empty chunks": (
        b"\x89PNG\r\n\x1a\n" + (struct.pack(">I", 0) + b"tEXt" + struct.pack(">I", zlib.crc32(b"tEXt"))) * 200_000,
        400,
    ),
}
