"""One decoder: what each kind of file must look like, and that training, embedding, uploads and index see the same."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.images import any_rgb, decode, find_images, image_format, open_rgb, opened, resize_and_center, to_rgb
from pullpush.images.formats import FORMATS
from pullpush.images.preprocessing import Preprocessing
from pullpush.server import uploads

HEIC = Path(__file__).with_name("turned.heic")
RAMP = np.linspace(0, 1, 48).reshape(6, 8)
MODES = {
    "1": "PNG",
    "L": "PNG",
    "LA": "PNG",
    "La": "",
    "P": "GIF",
    "PA": "",
    "RGB": "PNG",
    "RGBX": "TIFF",
    "RGBA": "PNG",
    "RGBa": "",
    "CMYK": "TIFF",
    "YCbCr": "",
    "LAB": "TIFF",
    "HSV": "",
    "I": "TIFF",
    "F": "TIFF",
    "I;16": "PNG",
    "I;16B": "TIFF",
    "I;16L": "",
    "I;16N": "",
}
"""Every mode of Pillow, and a format that keeps it in a file, where there is one."""


def written(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def of_mode(mode: str) -> Image.Image:
    """An image of a mode with dark and light, and transparent pixels where it knows them."""
    if mode == "F":
        return Image.fromarray(RAMP.astype(np.float32))
    if mode == "I":
        return Image.fromarray((RAMP * 60_000).astype(np.int32))
    if mode == "I;16":
        return Image.fromarray((RAMP * 60_000).astype(np.uint16))
    if mode.startswith("I;16"):
        order = {"B": ">", "L": "<", "N": "="}[mode[-1]]
        return Image.frombytes(mode, (8, 6), (RAMP * 60_000).astype(f"{order}u2").tobytes())
    if mode == "LAB":
        return Image.frombytes("LAB", (8, 6), bytes(np.stack([RAMP * 255, RAMP * 90, RAMP * 40], -1).astype(np.uint8)))
    colours = Image.fromarray(np.stack([RAMP * 255, 255 - RAMP * 255, RAMP * 99], -1).astype(np.uint8))
    colours.putalpha(Image.fromarray((255 - RAMP * 200).astype(np.uint8)))
    over = {"La": "LA", "PA": "P", "HSV": "RGB", "YCbCr": "RGB"}.get(mode, mode)
    for way in (over, mode):
        colours = colours.convert(way)
    return colours


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_the_same_for_training_embedding_uploads_and_index(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, kind = of_mode(mode), MODES[mode]
    assert image.mode == mode
    wanted = np.asarray(to_rgb(image))
    assert wanted.shape == (6, 8, 3)
    assert np.ptp(wanted) > 50  # neither black nor white
    if not kind:
        return
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(written(image, kind))
    with Image.open(path) as again:
        wanted = np.asarray(to_rgb(again))
        assert kind in ("GIF", "TIFF") or again.mode == mode
    monkeypatch.setattr(uploads, "FORMATS", tuple(FORMATS))
    for seen in (
        Items.build("one", [str(path)], ["a"]).open(0),  # training and index
        any_rgb(path, ""),  # Model.embed of a path
        any_rgb(Image.open(path), ""),  # and of a PIL image
        uploads.decode(path.read_bytes()),
    ):
        assert np.array_equal(np.asarray(seen), wanted)


@pytest.mark.parametrize("shape", [(), (9,), (0, 4, 3), (4, 4, 1), (4, 4, 2), (4, 4, 5), (2, 4, 4, 3)])
def test_arrays_that_are_no_image_are_told_what_to_be(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"image 3 is an array of uint8 \[.*\]: give uint8 \[h, w\] or \[h, w, 3\]"):
        any_rgb(np.zeros(shape, np.uint8), "3")


def test_the_modes_are_all_that_there_are() -> None:
    assert set(Image.MODES) <= set(MODES)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # from black to white as 0 to 1
        ([0.0, 0.25], [0, 64]),  # darker than white stays darker
        ([0.0, 128.0, 200.0], [0, 128, 200]),  # as 0 to 255
        ([0.0, 257.0 * 100], [0, 100]),  # as 0 to 65,535
        ([-5.0, 0.0, 5.0], [0, 128, 255]),  # no white is known: from the smallest to the largest
        ([0.0, 1e6], [0, 255]),
    ],
)
def test_float_and_32_bit_grey_by_one_rule(values: list[float], wanted: list[int]) -> None:
    for kind in (np.float32, np.int32):
        exact = np.array([values], kind)
        if kind is np.int32 and (exact != np.array([values])).any():
            continue
        grey = np.asarray(decode(written(Image.fromarray(exact), "TIFF")))
        assert grey[0, :, 0].tolist() == wanted


def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "nan.tif"
    path.write_bytes(written(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF"))
    with pytest.raises(UserError, match="not finite numbers"):
        open_rgb(path)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        grey = np.asarray(decode(written(Image.fromarray(values), kind)))
        assert grey[0, :, 0].tolist() == [0, 1, 128, 255]
        assert (grey == grey[..., :1]).all()


def test_transparency_is_composited_on_white() -> None:
    half_red = Image.new("RGBA", (1, 1), (255, 0, 0, 128))
    assert decode(written(half_red, "PNG")).getpixel((0, 0)) == (255, 127, 127)
    assert decode(written(Image.new("LA", (1, 1), (0, 0)), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("La", (1, 1), (0, 0))).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    clear_red = decode(written(palette, "PNG", transparency=0))
    assert [clear_red.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 255)]
    keyed = written(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert decode(keyed).getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_lab_and_bits_become_rgb() -> None:
    red = decode(written(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)).getpixel((0, 0))
    assert np.abs(np.array(red) - (255, 0, 0)).max() <= 3
    assert to_rgb(Image.new("LAB", (1, 1), (255, 128, 128))).getpixel((0, 0))[1] == 255
    assert decode(written(Image.new("1", (1, 1), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_first_frame_of_an_animation(kind: str) -> None:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    data = written(red, kind, save_all=True, append_images=[blue])
    assert np.abs(np.array(decode(data).getpixel((0, 0))) - (255, 0, 0)).max() < 8
    with Image.open(io.BytesIO(data)) as image:
        image.seek(1)
        assert np.abs(np.array(to_rgb(image).getpixel((0, 0))) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_upright_by_exif(kind: str, turn: int) -> None:
    upright = Image.new("RGB", (32, 64), "black")
    upright.paste("white", (0, 0, 16, 32))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(turn)  # Image.Transpose numbers of the way back
    stored = upright if back is None else upright.transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = turn
    image = decode(written(stored, kind, exif=exif))
    assert image.size == (32, 64)
    assert np.abs(np.asarray(image, float) - np.asarray(upright, float)).mean() < 3


def test_upright_by_xmp_and_by_hand_and_by_an_old_png() -> None:
    flat = Image.new("RGB", (4, 2))
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert decode(written(flat, "JPEG", xmp=xmp)).size == (2, 4)
    exif = Image.Exif()
    exif[0x0112] = 8
    from PIL.PngImagePlugin import PngInfo

    info, raw = PngInfo(), exif.tobytes()
    info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n")
    assert decode(written(flat, "PNG", pnginfo=info)).size == (2, 4)
    flat.getexif()[0x0112] = 6
    assert to_rgb(flat).size == (2, 4)


def shared_exif(entries: int, size: int) -> bytes:
    """An EXIF block whose entries all point at the same bytes; its orientation is 6."""
    head = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", entries + 1) + struct.pack("<HHII", 0x0112, 3, 1, 6)
    after = len(head) + 12 * entries + 4
    each = b"".join(struct.pack("<HHII", 0x9000 + n, 7, size, after) for n in range(entries))
    return b"Exif\x00\x00" + head + each + bytes(4) + bytes(size)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_never_reaches_pillows_reader(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = shared_exif(1000, 40_000)
    with warnings.catch_warnings(action="ignore"):
        data = written(Image.new("RGB", (64, 32)), kind, exif=exif if kind in ("JPEG", "PNG") else exif[6:])
        with Image.open(io.BytesIO(data)) as image:
            read = sum(len(value) for value in image.getexif().values() if isinstance(value, bytes))
    assert read > 0  # Pillow itself reads them, below 13 all 40 MB

    def never(*_: object) -> None:
        raise AssertionError("Pillow reads the EXIF")

    monkeypatch.setattr(TiffImagePlugin.ImageFileDirectory_v2, "load", never)
    assert decode(data).size == (32, 64)


def test_the_list_of_a_multi_picture_jpeg_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(Image.new("RGB", (8, 8), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert opened(data).format == "JPEG"
    assert decode(data).getpixel((0, 0))[0] > 250


def test_a_tiff_whose_entries_share_their_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shared.tif"
    path.write_bytes(shared_exif(2000, 100_000)[6:])
    with pytest.raises(UserError, match="share their bytes"):
        open_rgb(path)


def test_hostile_metadata_cause_no_flood_of_warnings(tmp_path: Path) -> None:
    plain = written(Image.new("RGB", (8, 8)), "TIFF")
    place = struct.unpack("<I", plain[4:8])[0]
    count = struct.unpack("<H", plain[place : place + 2])[0]
    known = plain[place + 2 : place + 2 + 12 * count]
    odd = b"".join(struct.pack("<HHII", 0xA100 + n, 7, 8, len(plain) * 9) for n in range(3000))
    table = struct.pack("<H", count + 3000) + known + odd + bytes(4)
    data = plain[:4] + struct.pack("<I", len(plain)) + plain[8:] + bytes(0)
    path = tmp_path / "flood.tif"
    path.write_bytes(plain[:4] + struct.pack("<I", len(data) + 4) + data[8:] + bytes(4) + table + bytes(40_000))
    code = f"from pullpush.images import open_rgb; print(open_rgb({str(path)!r}).size)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    assert "(8, 8)" in ran.stdout


@pytest.mark.parametrize("kind", [*FORMATS])
def test_every_format_is_known_by_its_first_bytes_and_read(kind: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32), "red")
    data = HEIC.read_bytes() if kind == "HEIF" else written(image, kind)
    assert image_format(data[:64]) == kind
    for suffix in FORMATS[kind]:
        (tmp_path / f"image{suffix}").write_bytes(data)
    found, left_out = find_images(tmp_path)
    assert len(found) == len(FORMATS[kind])
    assert not left_out
    assert all(open_rgb(path).getpixel((5, 5))[0] > 240 for path in found)


def test_heic_is_turned_once_and_taken_as_an_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    for image in (open_rgb(HEIC), uploads.decode(HEIC.read_bytes())):
        assert image.size == (48, 64)  # stored lying, with an EXIF that says so too
        assert image.getpixel((5, 5))[0] > 200
        assert image.getpixel((5, 60))[2] > 200
    monkeypatch.setattr(uploads, "MAX_PIXELS", 3000)
    with pytest.raises(uploads.Refused) as refused:
        uploads.decode(HEIC.read_bytes())
    assert refused.value.status == 413


def test_without_pi_heif_a_sentence_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(UserError, match=r"turned\.heic.*pip install pi-heif"):
        open_rgb(HEIC)


@pytest.mark.parametrize("start", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.4\n", b"\x0a\x05\x01\x08", b"hello"])
def test_other_formats_reach_no_decoder_whatever_they_are_called(
    start: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a decoder was asked")

    monkeypatch.setattr(Image, "open", never)
    path = tmp_path / "photo.png"
    path.write_bytes(start + bytes(500))
    with pytest.raises(UserError, match=r"photo\.png: not an image"):
        open_rgb(path)


@pytest.mark.parametrize("name", ["text.png", "empty.png", "cut.png", "cut.jpg", "folder.png", "gone.png", "0-ubyte#0"])
def test_unreadable_files_are_named(tmp_path: Path, name: str) -> None:
    noise = Image.effect_noise((64, 64), 50)
    contents = {
        "text.png": (b"not an image", "not an image"),
        "empty.png": (b"", "empty"),
        "cut.png": (written(noise, "PNG")[:900], "truncated|ends"),
        "cut.jpg": (written(noise, "JPEG")[:900], "truncated|ends"),
        "folder.png": (None, "a folder"),
        "gone.png": (None, "missing"),
        "0-ubyte#0": (None, "missing"),
    }
    data, reason = contents[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    elif name == "folder.png":
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{name}: .*({reason})") as caught:
        open_rgb(tmp_path / name)
    assert caught.value.reason in str(caught.value)


def test_only_regular_files_are_read_and_none_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        os.symlink("/dev/zero", tmp_path / "device.png")
        os.symlink(tmp_path / "round.png", tmp_path / "round.png")
        for name, what in (("pipe", "named pipe"), ("socket", "socket"), ("device", "device"), ("round", "levels")):
            with pytest.raises(UserError, match=what):
                open_rgb(tmp_path / f"{name}.png")
    found, left_out = find_images(tmp_path)
    assert [Path(path).name for path in found] == ["round.png"]  # named when it is read, as any broken file
    assert left_out == {"pipes, sockets or devices": 3}


def test_links_to_folders_are_followed_once_and_never_out_to_the_system(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "elsewhere"
    (root / "a").mkdir(parents=True)
    other.mkdir()
    for folder in (root / "a", other):
        Image.new("RGB", (2, 2)).save(folder / "image.png")
    for name, target in {"b": other, "again": other, "loop": root, "up": tmp_path, "all": "/", "dev": "/dev"}.items():
        os.symlink(target, root / name)
    os.symlink("/proc/self", root / "a" / "self")
    found, left_out = find_images(root)
    assert [str(Path(path).relative_to(root)) for path in found] == ["a/image.png", "again/image.png"]
    assert left_out == {"links to a folder around this one": 2, "linked folders of the system": 2}


def photograph(width: int, height: int) -> Image.Image:
    """Detail at every scale, as in nature: noise of falling strength at rising sizes, and a camera's grain."""
    draw, total = np.random.default_rng(0), np.zeros((height, width, 3))
    for cells in (2, 4, 8, 16, 32, 64, 128):
        noise = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) / cells
    total = 255 * (total - total.min()) / np.ptp(total) + draw.normal(0, 3, (height, width, 1))
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(("size", "scale"), [((1600, 1200), 4), ((1600, 599), 2), ((420, 300), 1), ((200, 150), 1)])
def test_a_jpeg_at_a_scale_is_the_whole_one_within_a_grey_level(
    size: tuple[int, int], scale: int, mode: str, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    turned = Image.Exif()
    turned[0x0112] = 6
    photograph(*size).convert(mode).save(path, quality=90, exif=turned)
    whole, scaled = open_rgb(path), open_rgb(path, side=252)
    assert whole.size == size[::-1]
    assert scaled.size == tuple(-(-each // scale) for each in whole.size)
    difference = np.abs(np.subtract(*(resize_and_center(each, 252).astype(float) for each in (whole, scaled))))
    assert difference.mean() < 1
    assert scale > 1 or not difference.any()


def test_a_scale_is_for_jpegs_without_a_box(tmp_path: Path) -> None:
    image = photograph(640, 480)
    for name in ("a.png", "b.webp", "c.gif", "d.tif", "e.jpg"):
        image.save(tmp_path / name)
        assert open_rgb(tmp_path / name, side=16).size == ((80, 60) if name == "e.jpg" else (640, 480))
    boxes = {"x_1": [10], "y_1": [20], "x_2": [110], "y_2": [220]}
    items = Items.build("boxed", [str(tmp_path / "e.jpg")], ["a"], **boxes)
    assert (np.asarray(items.open(0, side=16)) == np.asarray(items.open(0))).all()


def test_a_jpeg_that_ends_too_early_is_found_at_any_scale(tmp_path: Path) -> None:
    data = written(photograph(640, 480), "JPEG")
    for share in (0.3, 0.9):
        (tmp_path / "cut.jpg").write_bytes(data[: int(share * len(data))])
        with pytest.raises(UserError, match="truncated"):
            open_rgb(tmp_path / "cut.jpg", side=1)


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


@pytest.mark.parametrize("size", [(97, 61), (40, 200), (1, 1), (32, 32)])
def test_evaluation_in_training_and_the_encoder_preprocess_alike(size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 90).convert("RGB")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = Preprocessing(32, mean, std)([image])[0]
    assert wanted.shape == (3, 32, 32)
    assert (Preprocessing(32, mean, std).transform(image) == wanted).all()
