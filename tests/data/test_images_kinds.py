"""Every kind of image becomes the 8-bit RGB picture that a person would see."""

import numpy as np
import pytest
from PIL import Image

from pullpush.data.opening import decode, open_image
from pullpush.errors import UserError


def colour(image):
    return image.getpixel((0, 0))


def saved(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparent_pixels_are_white(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((3, 3), (0, 0, 0, 255))
    image = image.convert(mode) if mode != "PA" else image.convert("P").convert("PA")
    path = saved(tmp_path, image, "image.tif" if mode == "PA" else "image.png")
    result = decode(path)
    assert result.mode == "RGB"
    assert result.getpixel((3, 3)) == (0, 0, 0)
    if mode != "PA":  # the conversion through a palette loses the alpha before it is saved
        assert colour(result) == (255, 255, 255)


def test_half_transparency_is_mixed_with_white(tmp_path):
    path = saved(tmp_path, Image.new("RGBA", (2, 2), (255, 0, 0, 128)))
    assert colour(decode(path)) == pytest.approx((255, 127, 127), abs=1)


def test_colour_key_of_an_rgb_png_is_transparent(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3))
    assert colour(decode(path)) == (255, 255, 255)


def test_16_bit_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    path = saved(tmp_path, Image.fromarray(values))
    assert [pixel[0] for pixel in decode(path).get_flattened_data()] == [0, 100, 255]


def test_float_and_32_bit_images(tmp_path):
    unit = saved(tmp_path, Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)), "unit.tif")
    wide = saved(tmp_path, Image.fromarray(np.array([[-5.0, 5.0]], dtype=np.float32)), "wide.tif")
    deep = saved(tmp_path, Image.fromarray(np.array([[0, 65535]], dtype=np.int32)), "deep.tif")
    assert [p[0] for p in decode(unit).get_flattened_data()] == [0, 128, 255]
    assert [p[0] for p in decode(wide).get_flattened_data()] == [0, 255]
    assert [p[0] for p in decode(deep).get_flattened_data()] == [0, 255]


def test_cmyk_grey_and_bilevel(tmp_path):
    cmyk = saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "image.jpg", quality=100)
    red, green, blue = colour(decode(cmyk))
    assert red > 200
    assert max(green, blue) < 60
    assert colour(decode(saved(tmp_path, Image.new("L", (2, 2), 7), "grey.png"))) == (7, 7, 7)
    assert colour(decode(saved(tmp_path, Image.new("1", (2, 2), 1), "one.png"))) == (255, 255, 255)


def test_first_frame_of_an_animation_and_exif_orientation(tmp_path):
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    path = saved(tmp_path, frames[0], "image.gif", save_all=True, append_images=frames[1:])
    assert colour(decode(path)) == (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert decode(saved(tmp_path, Image.new("RGB", (6, 2)), "turned.jpg", exif=exif)).size == (2, 6)


def test_one_pixel(tmp_path):
    assert decode(saved(tmp_path, Image.new("RGB", (1, 1), "red"))).size == (1, 1)


def test_broken_images_name_path_and_reason(tmp_path):
    good = saved(tmp_path, Image.effect_noise((64, 64), 50)).read_bytes()
    cases = {
        "text.png": (b"this is a text file", "not an image"),
        "short.png": (good[: len(good) // 2], "truncated"),
        "empty.png": (b"", "not an image"),
        "missing.png": (None, "missing"),
        "idx3-ubyte.gz#0": (b"nonsense", "missing"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=reason) as caught:
            open_image(path)
        assert str(path) in str(caught.value)
