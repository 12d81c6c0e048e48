"""Why two images match: the sum over places is the score, against float64 loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pullpush.encoders import ImageEncoder, Model
from pullpush.errors import UserError


def model_of(name: str = "resnet18", size: int = 96, **options: object) -> Model:
    encoder = ImageEncoder(name, dim=8, weights="none", size=size, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        if isinstance(encoder.head, torch.nn.Linear):
            encoder.head.bias.copy_(torch.linspace(-0.5, 0.5, 8))
    return Model([encoder], "none")


def images(seed: int = 0) -> tuple[Image.Image, Image.Image]:
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    one, other = (Image.fromarray(each).resize((120, 100)) for each in pixels)
    return one, other


def cosine(model: Model, a: Image.Image, b: Image.Image) -> float:
    one, other = model.embed([a, b]).astype(np.float64)
    return float(one @ other)


def test_equals_a_loop_over_places() -> None:
    model, (a, b) = model_of(), images()
    encoder = model.image
    weight, bias = (each.detach().double().numpy() for each in (encoder.head.weight, encoder.head.bias))
    with torch.no_grad():
        maps = encoder.backbone.forward_features(encoder.prepare([a, b])).double().numpy()
    assert maps.shape[2:] == (3, 3)
    outputs = [[[weight @ each[:, row, column] + bias for column in range(3)] for row in range(3)] for each in maps]
    one, other = (np.mean([cell for row in each for cell in row], axis=0) for each in outputs)
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    match = model.explain(a, b)
    for found, each, to in ((match.map_a, outputs[0], other), (match.map_b, outputs[1], one)):
        expected = [[cell @ to / (9 * lengths) for cell in row] for row in each]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert match.exact


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("tf_efficientnet_lite0", {}, (3, 3)),
        ("resnet18", {}, (3, 3)),
        ("resnet18", {"head": "none"}, (3, 3)),
        ("resnet18", {"normalize": False}, (3, 3)),
        ("swin_tiny_patch4_window7_224", {}, (3, 3)),  # channels last
    ],
)
def test_the_sum_over_places_is_the_score(name: str, options: dict[str, object], shape: tuple[int, int]) -> None:
    model, (a, b) = model_of(name, **options), images(1)
    match = model.explain(a, b)
    assert match.exact
    assert match.map_a.shape == match.map_b.shape == shape
    assert match.score == pytest.approx(cosine(model, a, b), abs=1e-5)
    assert match.map_a.sum() == pytest.approx(match.score, abs=1e-5)
    assert match.map_b.sum() == pytest.approx(match.score, abs=1e-5)
    swapped = model.explain(b, a)
    np.testing.assert_allclose(swapped.map_a, match.map_b, atol=1e-9)


def test_an_image_matches_itself_alike_in_both_maps() -> None:
    a, _ = images(2)
    match = model_of().explain(a, a)
    assert match.score == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(match.map_a, match.map_b)


@pytest.mark.parametrize(
    ("name", "options", "shape", "said"),
    [
        ("resnet18", {"head": "mlp"}, (3, 3), "last map"),
        ("mobilenetv3_small_050", {}, (3, 3), "last map"),  # a layer between pooling and head
        ("vit_tiny_patch16_224", {}, (12, 12), "pixels"),  # a class token
    ],
)
def test_an_approximation_says_so_and_sums_to_the_score(
    name: str, options: dict[str, object], shape: tuple[int, int], said: str
) -> None:
    model, (a, b) = model_of(name, **options), images(3)
    match = model.explain(a, b)
    assert not match.exact
    assert match.method.startswith("approximation")
    assert said in match.method
    assert match.map_a.shape == shape
    assert match.map_a.sum() == pytest.approx(match.score, abs=1e-6)
    assert match.score == pytest.approx(cosine(model, a, b), abs=1e-5)


def test_the_approximation_of_a_linear_head_is_the_exact_map() -> None:
    """A head of two linear layers is one: integrated gradients of what is linear are exact."""
    model, (a, b) = model_of(), images(4)
    exact = model.explain(a, b)
    model.image.head = torch.nn.Sequential(model.image.head)
    approximate = model.explain(a, b)
    assert not approximate.exact
    np.testing.assert_allclose(approximate.map_a, exact.map_a, atol=1e-5)


def test_heat_is_where_the_likeness_is() -> None:
    """Two grey images with the same square in another corner: the pixels that weigh most are the square's."""
    model = model_of("tf_efficientnet_lite0", 64)
    patch = Image.fromarray(np.random.default_rng(5).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    mean = tuple(round(255 * each) for each in model.preprocessing.mean)
    a = Image.new("RGB", (64, 64), mean)  # type: ignore[arg-type]
    b = a.copy()
    a.paste(patch, (0, 0))
    b.paste(patch, (48, 48))
    match = model.explain(a, b, pixels=True)
    assert match.map_a.shape == (8, 8)
    size = np.abs(match.map_a - np.median(match.map_a))
    assert size[:2, :2].sum() > 0.9 * size.sum()
    size = np.abs(match.map_b - np.median(match.map_b))
    assert size[6:, 6:].sum() > 0.9 * size.sum()


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    a, _ = images()
    with pytest.raises(UserError, match=r"nothing\.png"):
        model_of().explain(a, tmp_path / "nothing.png")
