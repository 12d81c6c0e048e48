"""One decoding to RGB: what each kind of file must look like."""

import io

import numpy as np
import pytest
from PIL import Image

from pullpush.errors import UserError
from pullpush.pictures import open_rgb, resize_and_center, to_rgb


def written(image: Image.Image, kind: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def pixel(file: io.BytesIO, x: int = 0, y: int = 0) -> tuple[int, ...]:
    image = open_rgb(file)
    assert image.mode == "RGB"
    return image.getpixel((x, y))


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([value for colour in colours for value in colour])
    image.putpixel((1, 0), 1)
    return image


def test_transparency_is_composited_on_white() -> None:
    half_red = Image.new("RGBA", (1, 1), (255, 0, 0, 128))
    assert pixel(written(half_red, "PNG")) == (255, 127, 127)
    assert pixel(written(Image.new("LA", (1, 1), (0, 0)), "PNG")) == (255, 255, 255)
    clear_red = written(palette((255, 0, 0), (0, 0, 255)), "PNG", transparency=0)
    assert pixel(clear_red) == (255, 255, 255)
    clear_red.seek(0)
    assert pixel(clear_red, 1) == (0, 0, 255)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        grey = np.asarray(open_rgb(written(Image.fromarray(values), kind)))
        assert grey[0, :, 0].tolist() == [0, 1, 128, 255]
        assert (grey == grey[..., :1]).all()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_grey_without_a_fixed_white_has_its_own(kind: type) -> None:
    values = np.array([[-4, 0, 5, 10]], kind)
    assert np.asarray(open_rgb(written(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == [0, 0, 128, 255]
    assert np.asarray(to_rgb(Image.fromarray(np.zeros((1, 2), kind)))).sum() == 0


def test_cmyk_palettes_and_bits_become_rgb() -> None:
    red = written(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(np.array(pixel(red)) - (255, 0, 0)).max() <= 3
    assert pixel(written(palette((9, 8, 7), (1, 2, 3)), "PNG"), 1) == (1, 2, 3)
    assert pixel(written(Image.new("1", (1, 1), 1), "PNG")) == (255, 255, 255)


def test_first_frame_of_an_animation() -> None:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    file = written(red, "GIF", save_all=True, append_images=[blue])
    with Image.open(file) as image:
        image.seek(1)
        assert to_rgb(image).getpixel((0, 0)) == (255, 0, 0)


def test_upright_by_exif() -> None:
    upright = Image.new("RGB", (2, 4), "black")
    upright.paste("white", (0, 0, 2, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn clockwise
    image = open_rgb(written(upright.rotate(90, expand=True), "PNG", exif=exif))
    assert image.size == (2, 4)
    assert np.array_equal(np.asarray(image), np.asarray(upright))


@pytest.mark.parametrize("name", ["text.png", "empty.png", "cut.png", "cut.jpg", "folder.png", "gone.png"])
def test_unreadable_files_are_named(tmp_path, name: str) -> None:
    noise = Image.effect_noise((64, 64), 50)
    contents = {
        "text.png": b"not an image",
        "empty.png": b"",
        "cut.png": written(noise, "PNG").getvalue()[:900],
        "cut.jpg": written(noise, "JPEG").getvalue()[:900],
    }
    if name in contents:
        (tmp_path / name).write_bytes(contents[name])
    elif name == "folder.png":
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=name):
        open_rgb(tmp_path / name)


def test_the_shorter_side_fits_and_the_middle_stays() -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    square = resize_and_center(wide, 32)
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8
    assert (square[:, 1:-1] == (0, 0, 255)).all()  # the outermost columns mix with what was cut, as if cut afterwards
    assert resize_and_center(Image.new("RGB", (1, 200_000), "red"), 32).tolist() == [[[255, 0, 0]] * 32] * 32


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_and_center(Image.fromarray(stripes), 32).astype(float)
    assert np.abs(small[:, 2:-2] - 127.5).max() < 3  # without antialiasing: 0 or 255
