"""The preprocessing of the weights: how an image becomes a square, and of what size; the same through every door."""

import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from pullpush.data.images import load_pixels
from pullpush.data.items import Items
from pullpush.encoders import ImageEncoder, Model, load, save
from pullpush.encoders.backbones import own_size
from pullpush.encoders.bundle import _fingerprint
from pullpush.errors import UserError
from pullpush.export.card import card
from pullpush.export.check import Check
from pullpush.images import Fit, resize_and_center
from pullpush.images.preprocessing import Preprocessing, square
from pullpush.search.embedding import _decode
from pullpush.server.decoders import Decoders

FITS: tuple[Fit, ...] = ("crop", "squash", "crop bilinear", "squash bilinear")


@pytest.fixture(scope="module")
def wide() -> Image.Image:
    """Waves of several lengths, in no way square."""
    x, y = np.meshgrid(np.arange(152), np.arange(64))
    waves = [np.sin(x / 7 + y / 19), np.cos(x * y / 300), np.sin(y / 3)]
    return Image.fromarray(np.rint(127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8))


def fitting(fit: Fit, **options) -> ImageEncoder:
    encoder = ImageEncoder("test_efficientnet", **{"weights": "none", "dim": 8, "size": 32, **options}).eval()
    encoder.preprocessing = replace(encoder.preprocessing, fit=fit)
    return encoder


@pytest.mark.parametrize("fit", FITS)
def test_a_square_is_that_of_timm(fit: Fit, wide: Image.Image) -> None:
    how, _, resample = fit.partition(" ")
    transform = timm.data.create_transform(
        (3, 32, 32),
        interpolation=resample or "bicubic",
        crop_mode="squash" if how == "squash" else "center",
        crop_pct=1.0,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
    )
    ours = Preprocessing(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), fit)([wide])[0]
    if how == "squash":
        torch.testing.assert_close(ours, transform(wide), atol=1e-5, rtol=0)
    else:  # timm resizes first and cuts then, so that pixels at both cuts are mixed with what was cut
        torch.testing.assert_close(ours[..., 2:-2], transform(wide)[..., 2:-2], atol=1e-2, rtol=0)
    others = [resize_and_center(wide, 32, other) for other in FITS if other != fit]
    assert all((resize_and_center(wide, 32, fit) != other).any() for other in others)


def test_tensors_that_are_kept_are_fitted_too(wide: Image.Image) -> None:
    pixels = torch.from_numpy(np.array(wide)).permute(2, 0, 1)
    for fit in FITS:
        got = square(pixels, 32, fit)
        assert got.shape == (3, 32, 32)
        assert np.abs(got.permute(1, 2, 0).numpy() - resize_and_center(wide, 32, fit).astype(float)).mean() < 1


@pytest.mark.parametrize("fit", ["squash", "squash bilinear"])
def test_every_door_makes_the_same_square(fit: Fit, wide: Image.Image, tmp_path: Path) -> None:
    file = tmp_path / "wide.png"
    wide.save(file)
    wanted = resize_and_center(wide, 32, fit)
    items = Items.build("two", [str(file)] * 2, ["a", "b"])
    np.testing.assert_array_equal(load_pixels(items, 32, fit=fit)[1].permute(1, 2, 0), wanted)
    np.testing.assert_array_equal(fitting(fit).squares([file], 32)[0].permute(1, 2, 0), wanted)
    np.testing.assert_array_equal(_decode(items.open, 0, 32, fit)[0], wanted)

    async def uploaded() -> list[np.ndarray]:
        decoders, stream = Decoders(cores=2), io.BytesIO()
        wide.save(stream, "PNG")
        await decoders.start()
        try:
            kept = await decoders.keep(stream.getvalue(), 32, tmp_path, fit)
            return [await decoders.pixels(stream.getvalue(), 32, fit), kept.pixels]
        finally:
            await decoders.close()

    for pixels in asyncio.run(uploaded()):
        np.testing.assert_array_equal(pixels, wanted)


def test_a_bundle_keeps_the_fit_and_older_ones_are_cropped(wide: Image.Image, tmp_path: Path) -> None:
    encoder = fitting("squash")
    save(tmp_path / "model", encoder)
    model = load(tmp_path / "model")
    assert (model.fit, model.preprocessing) == ("squash", encoder.preprocessing)
    np.testing.assert_array_equal(model.embed(wide), Model([encoder], "").embed(wide))
    squashed = wide.resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(model.embed(wide), model.embed(squashed))
    assert "fit" not in fitting("crop").config()  # so that fingerprints of bundles stay what they were
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["image"]["fit"] = "stretch"
    config["fingerprint"] = _fingerprint(tmp_path / "model", config)
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"fit is 'stretch', not one of crop, squash"):
        load(tmp_path / "model")


@pytest.mark.parametrize("fit", FITS)
def test_the_code_on_the_card_of_an_export_makes_the_same_square(fit: Fit, wide: Image.Image, tmp_path: Path) -> None:
    model = Model([fitting(fit)], "0" * 64)
    text = card(model, "onnx", False, None, Check({"image": 1.0}, "noise"))
    code = text.split("```python\n")[1].split("images = ")[0]
    wide.save(tmp_path / "wide.png")
    names: dict = {}
    exec(code, names)
    np.testing.assert_array_equal(names["preprocess"](tmp_path / "wide.png"), model.preprocess(wide)[0])


def test_a_backbone_of_one_size_has_it_by_default() -> None:
    assert (own_size("test_vit"), own_size("timm:test_vit"), own_size("tf_efficientnet_lite0")) == (160, 160, 0)
    assert ImageEncoder("test_vit", weights="none", dim=8).preprocessing.size == 160
    assert ImageEncoder("test_vit", weights="none", dim=8, size=48).preprocessing.size == 48
    assert ImageEncoder("test_efficientnet", weights="none", dim=8).preprocessing.size == 64
    with pytest.raises(UserError, match="no image model 'test_wit'"):
        own_size("test_wit")


def test_timm_says_how_its_weights_see(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ImageEncoder("test_resnet", weights="none").preprocessing.fit == "crop bilinear"
    assert ImageEncoder("test_vit", weights="none").preprocessing.fit == "crop"
    eva = timm.get_pretrained_cfg("eva02_base_patch14_448.mim_in22k_ft_in22k")
    monkeypatch.setattr("timm.get_pretrained_cfg", lambda name: eva)
    wanted = Preprocessing(32, tuple(eva.mean), tuple(eva.std), "squash")
    assert ImageEncoder("test_vit", weights="none", size=32).preprocessing == wanted
    assert own_size("test_vit") == 448
