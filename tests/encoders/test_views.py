"""Test views: the mean of what an encoder makes of an image at several scales, mirrored and cropped."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pullpush.encoders import ImageEncoder, View, Views, load, save
from pullpush.encoders.model import Model
from pullpush.encoders.views import embed_each, mean_of
from pullpush.errors import UserError
from pullpush.images import resize_and_center
from pullpush.images.preprocessing import normalise

VIEWS = Views((View(), View(1.25)), (View(), View(1.25), View(1.5, flip=True), View(crop=0.75)))


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return ImageEncoder(weights="none", size=32, dim=8, seed=3).eval()


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in ((50, 40, 3), (64, 90, 3))]


def plainly(encoder: ImageEncoder, image: Image.Image, view: View, side: int) -> np.ndarray:
    """The embedding of one view, step by step."""
    square = resize_and_center(image, side)
    cut = round(side * view.crop)
    start = round((side - cut) / 2)
    square = square[start : start + cut, start : start + cut]
    pixels = torch.tensor(square.copy()).permute(2, 0, 1)[None]
    own = encoder.preprocessing
    inputs = normalise(pixels, own.mean, own.std, round(own.size * view.scale)).numpy()
    if view.flip:
        inputs = inputs[..., ::-1].copy()
    with torch.inference_mode():
        x = encoder(torch.from_numpy(inputs)).numpy()[0].astype(np.float64)
    return x / np.linalg.norm(x)


def test_an_image_is_the_mean_of_its_views(encoder: ImageEncoder, images: list[Image.Image]) -> None:
    model = Model([encoder], "", views=VIEWS)
    assert model.side == VIEWS.side(32) == 48
    queries, gallery = model.embed_both(images, batch_size=1)
    for role, found in (("query", queries), ("gallery", gallery)):
        np.testing.assert_array_equal(model.embed(images, batch_size=1, role=role), found)
        for image, row in zip(images, found, strict=True):
            each = [plainly(encoder, image, view, 48) for view in VIEWS.of_role(role)]
            mean = np.mean(each, axis=0)
            np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=2e-5)
    assert np.abs(queries - gallery).max() > 1e-3


def test_one_plain_view_is_the_encoder_to_the_bit(encoder: ImageEncoder, images: list[Image.Image]) -> None:
    without, plain = Model([encoder], ""), Model([encoder], "", views=Views())
    np.testing.assert_array_equal(without.embed(images), plain.embed(images, role="query"))
    squares = encoder.squares(images, 32)
    with torch.inference_mode():
        seen = mean_of(embed_each(encoder, squares, [View()]), [View()])
    np.testing.assert_array_equal(seen.numpy(), without.embed(images))


def test_a_mirrored_image_is_the_mirrored_view(encoder: ImageEncoder, images: list[Image.Image]) -> None:
    mirrored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
    both = Model([encoder], "", views=Views((View(), View(flip=True)), (View(), View(flip=True))))
    np.testing.assert_allclose(both.embed(images), both.embed(mirrored), atol=1e-5)
    assert np.abs(Model([encoder], "").embed(images) - Model([encoder], "").embed(mirrored)).max() > 1e-3


def test_what_it_costs() -> None:
    assert VIEWS.cost("query") == pytest.approx(1 + 1.5625)
    assert VIEWS.cost("gallery") == pytest.approx(1 + 1.5625 + 2.25 + 1)
    assert VIEWS.all == VIEWS.gallery
    assert not VIEWS.plain
    assert Views().plain


@pytest.mark.parametrize("spelled", ["1", "1.25", "1.5 flip", "0.5 crop 0.9", "1 crop 0.75 flip"])
def test_spelled_and_read(spelled: str) -> None:
    assert str(View.of(spelled)) == spelled


@pytest.mark.parametrize(
    "spelled", ["", "big", "flip", "1.25flip", "1 flip crop 0.9", "-1", "nan", "0", "9", "1 crop 2"]
)
def test_what_is_no_view(spelled: str) -> None:
    with pytest.raises(UserError, match="view"):
        View.of(spelled)


def test_the_bundle_keeps_them(tmp_path: Path, encoder: ImageEncoder, images: list[Image.Image]) -> None:
    plain = save(tmp_path / "plain", encoder)
    print_ = save(tmp_path / "views", encoder, views=VIEWS)
    assert plain == save(tmp_path / "named", encoder, views=Views()) != print_
    model = load(tmp_path / "views")
    assert model.views == VIEWS
    assert load(tmp_path / "plain").views.plain
    np.testing.assert_array_equal(model.embed(images), Model([encoder], "", views=VIEWS).embed(images))
    # Other views are another model: what an index was built with can't be changed in silence.
    file = tmp_path / "views" / "config.json"
    config = json.loads(file.read_text())
    config["views"]["query"] = ["1"]
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match="do not match its fingerprint"):
        load(tmp_path / "views")


@pytest.mark.parametrize(
    "views", [{"query": [], "gallery": ["1"]}, {"query": ["1"]}, {"query": ["1", "1"], "gallery": ["1"]}, 3]
)
def test_damaged_views(views: object) -> None:
    with pytest.raises(UserError, match="views"):
        Views.of(views)
