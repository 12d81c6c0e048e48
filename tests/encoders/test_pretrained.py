"""Models of libraries as they are: what they embed is what their own library says, and nothing is random in silence."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pullpush
from pullpush.encoders import ImageEncoder, TextEncoder, load, save
from pullpush.encoders import hub as hub_module
from pullpush.encoders.backbones.sentence_transformers import _preprocessing
from pullpush.errors import UserError
from pullpush.export import export
from tests.support.texts import small_text_model
from tests.support.tiny_models import TINY, tiny_clip

NAME = "timm:test_resnet"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    generator = np.random.default_rng(1)
    return [Image.fromarray(generator.integers(0, 256, (50, 70, 3), np.uint8)) for _ in range(3)]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A model of timm that somebody has trained: no value is that of a new one."""
    torch.manual_seed(3)
    return timm.create_model("test_resnet", num_classes=1000).eval()


@pytest.fixture(scope="module")
def embedder() -> nn.Linear:
    torch.manual_seed(4)
    return nn.Linear(96, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder of images and texts."""
    root = tmp_path_factory.mktemp("joint")
    image = ImageEncoder("test_resnet", weights="none", size=32, dim=16)
    save(root / "model", image, TextEncoder(small_text_model(root / "text"), dim=16))
    export(root / "model", "sentence-transformers", root / "st")
    return root


def _features(network: Any, images: list[Image.Image]) -> Tensor:
    """By timm alone, of central squares of its own size, mean and deviation."""
    own = timm.data.resolve_model_data_config(network)
    side = own["input_size"][-1]
    encoder = ImageEncoder("test_resnet", weights="none", size=side)
    pixels = encoder.squares(images, side).float() / 255
    mean, std = (torch.tensor(own[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        features: Tensor = network.forward_head(network.forward_features((pixels - mean) / std), pre_logits=True)
    return features


def _unit(x: Tensor) -> NDArray[np.float32]:
    return np.asarray(nn.functional.normalize(x).detach(), np.float32)


def test_a_model_of_timm_embeds_as_timm_does(network: nn.Module, images: list[Image.Image], tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    model = pullpush.load(NAME, weights=tmp_path / "weights.pt")
    assert (model.dim, model.preprocessing.size, model.text, model.decision) == (96, 160, None, None)
    np.testing.assert_allclose(model.embed(images), _unit(_features(network, images)), atol=1e-5)
    assert "weights='file weights.pt: 90 of 90 tensors; not used: fc.weight, fc.bias'" in repr(model)


def _under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def _together(trunk: State, layer: State) -> dict[str, Any]:
    return {"epoch": 3, "trunk": trunk, "embedder": _under("net.0.", layer), "optimizer": {"state": {0: torch.ones(2)}}}


# How trunk and linear embedder lie in a file.
FILES: dict[str, Callable[[State, State], dict[str, Any]]] = {
    "trunk and embedder": _together,
    "extractor with projection": lambda trunk, layer: {
        "state_dict": _under("model.extractor.model.", trunk)
        | _under("model.projection.0.", layer)
        | {"criterion.weight": torch.ones(20, 8)}
    },
    "data parallel": lambda trunk, layer: _under("module.backbone.", trunk) | _under("module.head.", layer),
    "its own last layer": lambda trunk, layer: trunk | _under("fc.", layer),
    "no bias": lambda trunk, layer: _under("trunk.", trunk) | {"embedder.weight": layer["weight"]},
}


@pytest.mark.parametrize("layout", FILES)
def test_an_embedder_is_the_head(
    network: nn.Module, embedder: nn.Linear, images: list[Image.Image], tmp_path: Path, layout: str
) -> None:
    trunk = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    torch.save(FILES[layout](trunk, embedder.state_dict()), tmp_path / "weights.pth")
    model = load(NAME, weights=str(tmp_path / "weights.pth"))
    wanted = embedder(_features(network, images).clone())
    wanted = wanted - embedder.bias if layout == "no bias" else wanted
    np.testing.assert_allclose(model.embed(images), _unit(wanted), atol=1e-5)
    assert "its head" in repr(model)


def test_a_trunk_and_its_embedder_in_two_files(
    network: nn.Module, embedder: nn.Linear, images: list[Image.Image], tmp_path: Path
) -> None:
    torch.save(network.state_dict(), tmp_path / "trunk_best.pth")
    save_file(embedder.state_dict(), tmp_path / "embedder_best.safetensors")
    files = [tmp_path / "trunk_best.pth", tmp_path / "embedder_best.safetensors"]
    model = load(NAME, weights=files)
    np.testing.assert_allclose(model.embed(images), _unit(embedder(_features(network, images).clone())), atol=1e-5)
    again = load(model.source, weights=model.weights)
    assert again.fingerprint == model.fingerprint


def test_texts_are_embedded_as_sentence_transformers_does(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["a smiling cat", "two dogs", ""]
    alone: Any = SentenceTransformer(str(folder / "text"), device="cpu")
    model = load(f"sentence_transformers:{folder / 'text'}")
    assert list(model.encoders) == ["text"]
    np.testing.assert_allclose(model.embed_text(texts), _unit(torch.tensor(alone.encode(texts))), atol=1e-5)


def test_what_images_are_expected_to_be_is_what_their_processor_does() -> None:
    from transformers import CLIPImageProcessor

    plain = {"do_normalize": False, "size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    normal = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2}
    whole = {"do_center_crop": False, "size": {"height": 48, "width": 48}}
    for options, size, mean, std, fit in (
        ({}, 32, 0.0, 1.0, "crop"),
        (normal, 32, 0.5, 0.25, "crop bilinear"),
        (whole, 48, 0.0, 1.0, "squash"),
    ):
        wanted = {"mean": (mean,) * 3, "std": (std,) * 3, "fit": fit}
        assert _preprocessing(CLIPImageProcessor(**plain | options)) == (size, wanted)


def test_both_towers_of_a_folder_come_back(folder: Path, images: list[Image.Image]) -> None:
    ours, back = load(folder / "model"), load(f"sentence_transformers:{folder / 'st'}")
    assert list(back.encoders) == ["image", "text"]
    assert back.preprocessing == ours.preprocessing
    np.testing.assert_allclose(back.embed(images), ours.embed(images), atol=1e-5)
    np.testing.assert_allclose(back.embed_text(["a cat", "dogs"]), ours.embed_text(["a cat", "dogs"]), atol=1e-5)
    with pytest.raises(UserError, match="used as it is and not trained"):
        ImageEncoder(f"sentence_transformers:{folder / 'st'}", size=32)


@pytest.mark.parametrize("tiny", TINY)
def test_models_of_transformers(tiny: str, images: list[Image.Image], tmp_path: Path) -> None:
    """Both towers of a joint one; the same model is the same wherever it lies."""
    name = f"hf:{TINY[tiny](tmp_path / 'model')}"
    model = load(name)
    joint = tiny in ("clip", "siglip")
    assert list(model.encoders) == ["image", "text"][: 1 + joint]
    assert model.preprocessing.size == 32
    assert model.embed(images).shape == (3, model.dim)
    assert model.source == name
    shutil.copytree(tmp_path / "model", tmp_path / "moved")
    assert load(f"hf:{tmp_path / 'moved'}").fingerprint == model.fingerprint


def test_zero_shot_scores_are_those_of_clip(images: list[Image.Image], tmp_path: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    folder = tiny_clip(tmp_path / "clip")
    own: Any = CLIPModel.from_pretrained(folder)
    texts = ["a cat", "two dogs", ""]
    model = load(f"hf:{folder}")
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        made = own(pixel_values=model.preprocessing(images).contiguous(), **tokens)
        cosines = made.logits_per_image / own.logit_scale.exp()
    np.testing.assert_allclose(model.embed(images) @ model.embed_text(texts).T, cosines, atol=1e-5)


def test_a_fingerprint_is_of_the_weights_and_not_of_the_place(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "text", tmp_path / "moved")
    first, moved = (load(f"sentence_transformers:{each}") for each in (folder / "text", tmp_path / "moved"))
    assert first.fingerprint == moved.fingerprint
    weights = tmp_path / "moved" / "model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] += 1
    save_file(tensors, weights, {"format": "pt"})
    assert load(f"sentence_transformers:{tmp_path / 'moved'}").fingerprint != first.fingerprint
    small, other = (ImageEncoder("test_resnet", weights="none", size=size, head="none") for size in (32, 64))
    from pullpush.encoders.pretrained import fingerprint

    assert fingerprint([small]) != fingerprint([other])
    assert fingerprint([small]) == fingerprint([ImageEncoder("test_resnet", weights="none", size=32, head="none")])


def test_pooling_and_tokens_are_in_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    first = load(f"sentence_transformers:{folder / 'text'}").fingerprint
    changes = {
        "1_Pooling/config.json": ('"mean"', '"cls"'),
        "tokenizer_config.json": ('"do_lower_case": true', '"do_lower_case": false'),
    }
    for number, (file, (old, new)) in enumerate(changes.items()):
        other = tmp_path / str(number)
        shutil.copytree(folder / "text", other)
        text = (other / file).read_text()
        assert old in text
        (other / file).write_text(text.replace(old, new))
        assert load(f"sentence_transformers:{other}").fingerprint != first


def test_a_folder_that_is_a_model_wins(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "model", tmp_path / NAME)
    model = load(NAME)
    assert model.text is not None
    assert model.source == str(tmp_path / NAME)
    (tmp_path / "named").symlink_to(folder / "text")
    assert load("sentence_transformers:named").source == f"sentence_transformers:{tmp_path / 'named'}"


def test_a_folder_that_is_called_as_a_model_of_timm_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_resnet").mkdir()
    assert load("timm:test_resnet", weights="none").source == "timm:test_resnet"


class Code:
    """What a pickle runs."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def _with_code(folder: Path) -> dict[str, Any]:
    (folder / "code.pt").write_bytes(pickle.dumps({"conv1.weight": Code()}))
    return {"source": NAME, "weights": folder / "code.pt"}


def _saved(tensors: Callable[[State], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        torch.save(tensors(dict(timm.create_model("test_resnet").state_dict())), folder / "weights.pt")
        return {"source": NAME, "weights": folder / "weights.pt"}

    return write


def _cut(folder: Path) -> dict[str, Any]:
    save_file({"a": torch.zeros(100)}, folder / "cut.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "cut.safetensors").read_bytes()[:-8])
    return {"source": NAME, "weights": folder / "cut.safetensors"}


def _sentences(change: Callable[[Path], Any]) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        shutil.copytree(folder.parent / "text", folder / "st")
        change(folder / "st")
        return {"source": f"sentence_transformers:{folder / 'st'}"}

    return write


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"embeddings": Code()}))


def _foreign_class(folder: Path) -> None:
    file = folder / "modules.json"
    own = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
    assert own in file.read_text()
    file.write_text(file.read_text().replace(own, "mine.Pooling"))
    (folder / "mine.py").write_text("import os\nos.mkdir('ran')\n")


def _first_bytes(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\0" * 100)


WRONG: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "nothing": (lambda _: {"source": "nowhere"}, "neither a run folder nor a model folder .*timm:NAME"),
    "no library": (lambda _: {"source": "tim:resnet18"}, "did you mean timm"),
    "no name": (lambda _: {"source": "timm:"}, "say which one of this library"),
    "no model of timm": (lambda _: {"source": "timm:test_resnte"}, "did you mean test_resnet"),
    "no network": (lambda _: {"source": NAME}, "hub can't be reached"),
    "no network for texts": (lambda _: {"source": "sentence_transformers:nobody/nothing"}, "neither a folder nor"),
    "no prefix": (lambda folder: {"source": folder.parent / "text"}, "say of which: sentence_transformers:"),
    "no such file": (lambda folder: {"source": NAME, "weights": folder / "x.pt"}, "no weights file at"),
    "code": (_with_code, "code.pt"),
    "cut": (_cut, "cut.safetensors"),
    "of another model": (_saved(lambda state: {"a.weight": torch.ones(2)}), "fits 'timm:test_resnet'"),
    "half": (_saved(lambda state: dict(list(state.items())[:40])), "would be random"),
    "two layers": (
        _saved(lambda state: state | {"net.0.weight": torch.ones(9, 96), "net.2.weight": torch.ones(4, 9)}),
        "holds more than the backbone and a linear layer",
    ),
    "weights of a run": (
        lambda folder: {"source": folder.parent / "model", "weights": "x.pt"},
        "holds its own weights",
    ),
    "weights of texts": (
        lambda folder: {"source": f"sentence_transformers:{folder.parent / 'text'}", "weights": "x.pt"},
        "embeds no images",
    ),
    "texts with code": (_sentences(_pickled), "damaged"),
    "texts with classes of their own": (_sentences(_foreign_class), "damaged"),
    "texts cut": (_sentences(_first_bytes), "damaged"),
    "texts without a configuration": (_sentences(lambda folder: (folder / "config.json").unlink()), "damaged"),
    "texts with a list for a mapping": (_sentences(lambda f: (f / "modules.json").write_text("{}")), "damaged"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_models_are_named(case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: False)
    (folder / "wrong").mkdir()
    given, message = WRONG[case]
    try:
        with pytest.raises(UserError, match=message):
            load(**given(folder / "wrong"))
    finally:
        shutil.rmtree(folder / "wrong")
    assert not (tmp_path / "ran").exists()
