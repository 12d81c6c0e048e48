"""Uploads: limits before decoding."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from pullpush.server.uploads import Refused, decode
from tests.support.fake import picture
from tests.support.hostile import HOSTILE, good


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WEBP"])
def test_good_pictures_of_every_format(name: str) -> None:
    image = decode(good(name))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, float) - np.asarray(picture("red", 1), float)).mean() < 15


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ones_are_refused(name: str) -> None:
    data, status = HOSTILE[name]
    with pytest.raises(Refused) as refused:
        decode(data)
    assert refused.value.status == status


def test_a_bomb_is_refused_before_its_pixels_are_made() -> None:
    tracemalloc.start()
    with pytest.raises(Refused):
        decode(HOSTILE["png bomb"][0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_harmless_bytes_behind_a_picture_pass() -> None:
    assert decode(good("JPEG") + bytes(500)).size == (24, 24)
    assert decode(good("PNG") + b"\n").size == (24, 24)


def test_a_thumbnail_within_a_jpeg_is_not_its_end() -> None:
    small, buffer = io.BytesIO(), io.BytesIO()
    picture("blue", 1, 8).save(small, "JPEG")
    picture("red", 1).save(buffer, "JPEG", comment=small.getvalue() + b"<script>")
    assert decode(buffer.getvalue()).size == (24, 24)


def test_orientation_and_transparency_as_in_training() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (30, 10), "red").save(buffer, "JPEG", exif=exif)
    assert decode(buffer.getvalue()).size == (10, 30)
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(buffer, "PNG")
    assert decode(buffer.getvalue()).getpixel((0, 0)) == (255, 255, 255)
