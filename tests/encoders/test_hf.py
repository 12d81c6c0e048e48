"""Models of transformers as backbones, against the library itself."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file as read_safetensors
from safetensors.torch import save_file
from timm.models import group_parameters
from torch import Tensor

from pullpush.encoders import ImageEncoder, TextEncoder, load, save
from pullpush.encoders import hub as hub_module
from pullpush.encoders.backbones import about, joint
from pullpush.encoders.backbones.sentence_transformers import no_progress_bars
from pullpush.encoders.explain import explain
from pullpush.errors import UserError
from tests.support.texts import small_text_model
from tests.support.tiny_models import STAGES, TINY, VISION, tiny_clip, tiny_dinov2, tiny_siglip, tiny_vit

SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "image_size": 32, "patch_size": 4}
SMALL = {key: value for key, value in VISION.items() if key != "initializer_range"}
# Further families by the name of their configuration: what they are made of.
FURTHER: dict[str, dict[str, Any]] = {
    "BeitConfig": VISION,
    "DeiTConfig": VISION,
    "SwinConfig": SWIN,
    "Swinv2Config": SWIN,
    "ConvNextV2Config": STAGES,
    "ResNetConfig": {"embedding_size": 8, **{k: v for k, v in STAGES.items() if k != "initializer_range"}},
    "Dinov2WithRegistersConfig": {**VISION, "num_register_tokens": 3},
    "ChineseCLIPVisionConfig": VISION,
    # One that is not known here by name.
    "FocalNetConfig": {k: SWIN[k] for k in ("embed_dim", "depths", "image_size", "patch_size")},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny model, written once."""
    root = tmp_path_factory.mktemp("hf")

    def folder(name: str) -> str:
        path = root / name
        if path.exists():
            return str(path)
        with no_progress_bars():
            if name in TINY:
                return TINY[name](path)
            import transformers

            torch.manual_seed(0)
            made = transformers.AutoModel.from_config(getattr(transformers, name)(**FURTHER[name]))
            made.save_pretrained(path)
        return str(path)

    return folder


def pixels(size: int = 32, n: int = 3) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def as_the_library(folder: str, images: Tensor) -> Tensor:
    """The embeddings as transformers' documentation makes them."""
    from transformers import AutoModel

    with no_progress_bars():
        model: Any = AutoModel.from_pretrained(folder).eval()
    kind = model.config.model_type
    sized = {"interpolate_pos_encoding": True}
    if kind in ("clip", "siglip"):
        return model.get_image_features(images, **sized).pooler_output
    if kind == "vit":  # this checkpoint has no pooler
        return model(images, **sized).last_hidden_state[:, 0]
    takes = ("beit", "deit", "focalnet", "swin", "swinv2", "chinese_clip_vision_model")
    return model(images, **(sized if kind in takes else {})).pooler_output.flatten(1)


@pytest.mark.parametrize("name", [*TINY, *FURTHER])
def test_embeddings_are_those_of_the_library(name: str, folders: Callable[[str], str]) -> None:
    """At the size of the checkpoint and at another one, where position embeddings are interpolated."""
    encoder = ImageEncoder(f"hf:{folders(name)}", size=32, head="none", normalize=False).eval()
    for size in (32, 48):
        with torch.no_grad():
            found = encoder(pixels(size))
        torch.testing.assert_close(found, as_the_library(folders(name), pixels(size)), atol=1e-5, rtol=1e-4)
        assert found.std(0).max() > 1e-4  # images differ
    assert encoder.loaded.source == "hf"
    assert not encoder.loaded.missing
    assert encoder.loaded.matched == len(encoder.backbone.state_dict())


@pytest.mark.parametrize("name", [*TINY, "SwinConfig", "BeitConfig", "FocalNetConfig"])
def test_a_bundle_needs_neither_folder_nor_hub(
    name: str, folders: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(folders(name), gone)
    encoder = ImageEncoder(f"hf:{gone}", size=48, dim=8, seed=3).eval()
    fingerprint = save(tmp_path / "bundle", encoder)
    shutil.rmtree(gone)
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: pytest.fail("asked the hub"))
    model = load(tmp_path / "bundle")
    assert model.fingerprint == fingerprint
    assert model.preprocessing == encoder.preprocessing
    assert save(tmp_path / "again", model.image) == fingerprint
    with torch.no_grad():
        assert torch.equal(model.image(pixels(48)), encoder(pixels(48)))


def test_the_scale_of_a_joint_model_is_kept(folders: Callable[[str], str], tmp_path: Path) -> None:
    for name, temperature, bias in (("clip", 0.02, None), ("siglip", 0.05, -7.0), ("vit", None, None)):
        encoder = ImageEncoder(f"hf:{folders(name)}", size=32)
        save(tmp_path / name, encoder)
        assert load(tmp_path / name).temperature == encoder.backbone.temperature
        for backbone in (encoder.backbone, load(tmp_path / name).image.backbone):
            assert backbone.temperature == (temperature and pytest.approx(temperature))
            assert backbone.bias == bias


@pytest.mark.parametrize("name", [*TINY, "SwinConfig", "ResNetConfig"])
def test_stages_begin_at_the_input(name: str, folders: Callable[[str], str]) -> None:
    """Frozen stages do not learn, all behind them do, and learning them changes the embedding."""
    backbone: Any = ImageEncoder(f"hf:{folders(name)}", size=32).backbone
    stages = group_parameters(backbone, backbone.group_matcher(coarse=True))
    names = [each for stage in sorted(stages) for each in stages[stage]]
    assert sorted(names) == sorted(each for each, _ in backbone.named_parameters())
    encoder = ImageEncoder(f"hf:{folders(name)}", size=32, frozen_stages=1, dim=4)
    encoder(pixels())[:, 0].sum().backward()
    learned = {each for each, parameter in encoder.backbone.named_parameters() if parameter.grad is not None}
    assert not learned & set(stages[0])
    unread = {each for each in names if "mask_token" in each}
    assert learned | set(stages[0]) | unread == set(names)
    with pytest.raises(UserError, match=f"has {len(stages)} stages, the stem counted"):
        ImageEncoder(f"hf:{folders(name)}", size=32, frozen_stages=len(stages) + 1)


@pytest.mark.parametrize(
    ("name", "method"),
    [("clip", "pixels"), ("siglip", "pixels"), ("convnext", "last map"), ("SwinConfig", "each place")],
)
def test_matches_are_explained(name: str, method: str, folders: Callable[[str], str]) -> None:
    encoder = ImageEncoder(f"hf:{folders(name)}", size=64, dim=8).eval()
    a, b = pixels(64, 2).split(1)
    match = explain(encoder, a, b)
    assert method in match.method
    assert match.exact == (method == "each place")
    with torch.no_grad():
        assert match.score == pytest.approx(float((encoder(a) * encoder(b)).sum()), abs=1e-5)
    for each in (match.map_a, match.map_b):
        assert each.sum() == pytest.approx(match.score, abs=1e-5)
        assert np.ptp(each) > 0


@pytest.mark.parametrize("name", ["clip", "dinov3"])
def test_checkpointed_gradients_are_the_same(name: str, folders: Callable[[str], str]) -> None:
    gradients = []
    for enable in (False, True):
        encoder = ImageEncoder(f"hf:{folders(name)}", size=32, dim=4).train()
        encoder.backbone.set_grad_checkpointing(enable)
        assert any(getattr(each, "gradient_checkpointing", False) for each in encoder.modules()) == enable
        torch.manual_seed(0)  # in training DINOv3 draws the scale of its positions
        encoder(pixels())[:, 0].sum().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients)


def test_what_cannot_be_checkpointed_says_so(folders: Callable[[str], str]) -> None:
    with pytest.raises(UserError, match="ConvNextModel of transformers has no gradient checkpointing"):
        ImageEncoder(f"hf:{folders('convnext')}", size=32).backbone.set_grad_checkpointing()


def test_mean_and_std_are_the_folders_own_or_the_familys(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "clip")
    about = tmp_path / "clip" / "preprocessor_config.json"
    usual = (0.48145466, 0.4578275, 0.40821073)
    assert ImageEncoder(f"hf:{folder}", size=32).loaded.mean == pytest.approx(usual)
    about.write_text(json.dumps(json.loads(about.read_text()) | {"image_mean": [0.1, 0.2, 0.3]}))
    assert ImageEncoder(f"hf:{folder}", size=32).loaded.mean == (0.1, 0.2, 0.3)
    about.write_text(json.dumps(json.loads(about.read_text()) | {"do_normalize": False}))
    assert ImageEncoder(f"hf:{folder}", size=32).loaded.std == (1, 1, 1)
    about.unlink()
    assert ImageEncoder(f"hf:{folder}", size=32).loaded.mean == pytest.approx(usual)
    about.write_text("{")
    with pytest.raises(UserError, match="transformers can't load"):
        ImageEncoder(f"hf:{folder}", size=32)


def test_images_are_prepared_as_the_library_does(folders: Callable[[str], str]) -> None:
    """At the model's own size, cropped or squashed; pixels differ by rounding and by who resizes."""
    from transformers import AutoImageProcessor

    tall = np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(tall).resize((60, 90), Image.Resampling.BICUBIC)
    for name, fit in {"clip": "crop", "siglip": "squash", "vit": "squash bilinear", "dinov2": "crop"}.items():
        encoder = ImageEncoder(f"hf:{folders(name)}")
        assert (encoder.preprocessing.size, encoder.preprocessing.fit) == (32, fit)
        processor: Any = AutoImageProcessor.from_pretrained(folders(name))
        theirs = processor(image, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(encoder.prepare([image]), theirs, atol=0.04, rtol=0)
    assert ImageEncoder(f"hf:{folders('convnext')}").preprocessing.size == 64  # it takes any


def test_without_a_processor_the_size_is_that_of_the_positions(tmp_path: Path) -> None:
    folder = Path(tiny_siglip(tmp_path / "siglip"))
    (folder / "preprocessor_config.json").unlink()
    encoder = ImageEncoder(f"hf:{folder}")
    assert (encoder.preprocessing.size, encoder.preprocessing.fit) == (32, "squash")


def test_weights_are_the_checkpoints_or_random_or_those_of_a_file(
    folders: Callable[[str], str], tmp_path: Path
) -> None:
    folder = folders("vit")
    file = Path(folder, "model.safetensors")
    own, again, drawn = (
        ImageEncoder(f"hf:{folder}", size=32, head="none", weights=weights, seed=5).eval()
        for weights in ("auto", str(file), "none")
    )
    assert again.loaded.source == "file model.safetensors"
    assert drawn.loaded.source == "none"
    with torch.no_grad():
        assert torch.equal(own(pixels()), again(pixels()))
        assert not torch.allclose(own(pixels()), drawn(pixels()), atol=0.1)
    tensors = read_safetensors(file)
    assert set(own.loaded.unexpected) == {"classifier.bias", "classifier.weight"}
    torch.save({"state_dict": tensors}, tmp_path / "all.pt")
    ImageEncoder(f"hf:{folder}", size=32, weights=str(tmp_path / "all.pt"))
    save_file({k: v for k, v in tensors.items() if "embeddings" not in k}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"lack 4 of its tensors \(embeddings.cls_token.*would stay random"):
        ImageEncoder(f"hf:{folder}", size=32, weights=str(tmp_path / "part.safetensors"))
    save_file(tensors | {"vit.layernorm.weight": torch.zeros(7)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"lack 1 of its tensors \(layernorm.weight\)"):
        ImageEncoder(f"hf:{folder}", size=32, weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match="no weights at 'timm'"):
        ImageEncoder(f"hf:{folder}", size=32, weights="timm")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_no_code_of_a_checkpoint_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(tiny_dinov2(tmp_path / "dinov2"))
    tensors = read_safetensors(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**tensors, "evil": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="transformers can't load"):
        ImageEncoder(f"hf:{folder}", size=32)
    torch.save(tensors, folder / "pytorch_model.bin")
    ImageEncoder(f"hf:{folder}", size=32)
    config = json.loads((folder / "config.json").read_text())
    (folder / "evil.py").write_text("import os; os.mkdir('ran')")
    strange = {"model_type": "strange", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config | strange))
    with pytest.raises(UserError, match="transformers can't load"):
        ImageEncoder(f"hf:{folder}", size=32)
    assert not Path("ran").exists()


def test_errors_name_the_input_and_the_cure(
    folders: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    monkeypatch.setattr(hub_module, "hub_reachable", lambda: False)
    with pytest.raises(UserError, match="'no/such-model' is neither a folder nor cached"):
        ImageEncoder("hf:no/such-model")
    with pytest.raises(UserError, match=f"transformers can't load '{tmp_path}'.*config.json"):
        ImageEncoder(f"hf:{tmp_path}")
    with pytest.raises(UserError, match=r"can't take 20 x 20 images: its patches have 8 pixels.*--encoder.size"):
        ImageEncoder(f"hf:{folders('siglip')}", size=20)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    with no_progress_bars():
        transformers.BertModel(transformers.BertConfig(vocab_size=9, **sizes)).save_pretrained(tmp_path / "bert")
        mae: Any = transformers.ViTMAEConfig(**SMALL)
        transformers.ViTMAEModel(mae).save_pretrained(tmp_path / "mae")
    with pytest.raises(UserError, match="is a model of the type 'bert', which takes no images"):
        ImageEncoder(f"hf:{tmp_path / 'bert'}", size=32)
    with pytest.raises(UserError, match="of the type 'vit_mae', makes no single embedding of an image"):
        ImageEncoder(f"hf:{tmp_path / 'mae'}", size=32)
    config = Path(tiny_siglip(tmp_path / "naflex"), "config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "siglip2"}))
    with pytest.raises(UserError, match="as lists of patches"):
        ImageEncoder(f"hf:{config.parent}", size=32)
    broken = Path(tiny_vit(tmp_path / "vit"), "model.safetensors")
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(UserError, match="transformers can't load"):
        ImageEncoder(f"hf:{broken.parent}", size=32)


TEXTS = ["A red cat", "two dogs on a lawn", "", "a text that is much longer than the sixteen tokens that there are"]


@torch.no_grad()
def texts_as_the_library(folder: str, texts: list[str]) -> Tensor:
    """Embeddings of texts as the documentation of CLIP and SigLIP makes them."""
    from transformers import AutoModel, AutoTokenizer

    with no_progress_bars():
        model: Any = AutoModel.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    padding = {"clip": True, "siglip": "max_length"}[model.config.model_type]
    tokens = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    return model.get_text_features(**tokens).pooler_output


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_texts_are_embedded_as_the_library_does(
    name: str, folders: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one by one, and by a bundle whose folder is gone."""
    gone = tmp_path / "gone"
    shutil.copytree(folders(name), gone)
    encoder = TextEncoder(f"hf:{gone}", head="none", normalize=False).eval()
    with torch.no_grad():
        found = encoder(TEXTS)
        torch.testing.assert_close(found, texts_as_the_library(str(gone), TEXTS), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(torch.cat([encoder([each]) for each in TEXTS]), found, atol=1e-5, rtol=1e-4)
    assert encoder.backbone.max_seq_length == 16
    assert encoder.width == encoder.backbone.get_embedding_dimension() == found.shape[1]
    fingerprint = save(tmp_path / "bundle", encoder)
    shutil.rmtree(gone)
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: pytest.fail("asked the hub"))
    model = load(tmp_path / "bundle")
    assert model.text is not None
    with torch.no_grad():
        assert torch.equal(model.text(TEXTS), found)
    assert model.fingerprint == fingerprint == save(tmp_path / "again", encoder)
    own = sum(parameter.numel() for parameter in encoder.backbone.parameters())
    held = read_safetensors(tmp_path / "bundle" / "text" / "model.safetensors")
    assert sum(each.numel() for each in held.values()) == own  # of the images there is nothing


def test_both_towers_are_in_one_space(folders: Callable[[str], str]) -> None:
    """Cosines over the temperature, and the bias, are the logits of the library."""
    from transformers import AutoModel, AutoTokenizer

    for name in ("clip", "siglip"):
        image = ImageEncoder(f"hf:{folders(name)}", head="none").eval()
        text = TextEncoder(f"hf:{folders(name)}", head="none").eval()
        tokenizer: Any = AutoTokenizer.from_pretrained(folders(name))
        with no_progress_bars():
            model: Any = AutoModel.from_pretrained(folders(name)).eval()
        tokens = tokenizer(TEXTS[:2], padding="max_length", truncation=True, return_tensors="pt")
        with torch.no_grad():
            theirs = model(pixel_values=pixels(), **tokens).logits_per_image
            ours = image(pixels()) @ text(TEXTS[:2]).T / image.backbone.temperature + (image.backbone.bias or 0)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_text_towers_learn(folders: Callable[[str], str]) -> None:
    for name in ("clip", "siglip"):
        text = TextEncoder(f"hf:{folders(name)}", dim=4, head="linear", freeze=False)
        text(TEXTS)[:, 0].sum().backward()
        assert all(parameter.grad is not None for parameter in text.parameters())


def test_texts_are_in_lower_case_where_the_tokenizer_says_so(tmp_path: Path) -> None:
    folder = Path(tiny_clip(tmp_path / "clip"))
    about = folder / "tokenizer_config.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"do_lower_case": True}))
    backbone: Any = TextEncoder(f"hf:{folder}").backbone
    assert backbone.tokenizer.init_kwargs["do_lower_case"]
    backbone.tokenizer.backend_tokenizer.normalizer = None
    assert torch.equal(backbone.preprocess(["A Cat"])["input_ids"], backbone.preprocess(["a cat"])["input_ids"])


def test_other_text_models_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    """A folder of theirs as it is; a plain model with the mean of its tokens, which is said."""
    folder = small_text_model(tmp_path / "theirs")
    texts = ["a cat", "two dogs"]
    theirs, ours = TextEncoder(folder, dim=8), TextEncoder(f"hf:{folder}", dim=8)
    with torch.no_grad():
        assert torch.equal(theirs(texts), ours(texts))
    plain = tmp_path / "plain"
    with no_progress_bars():
        ours.backbone[0].model.save_pretrained(plain)
    ours.backbone.tokenizer.save_pretrained(plain)
    with pytest.warns(UserWarning, match="says no pooling: the embedding of a text is the mean of its tokens"):
        mean = TextEncoder(f"hf:{plain}", head="none", normalize=False)
    tokens = mean.tokenize(texts)
    with torch.no_grad():
        found = mean(texts)
        last = ours.backbone[0].model(**tokens).last_hidden_state
    weights = tokens["attention_mask"][..., None]
    torch.testing.assert_close(found, (last * weights).sum(1) / weights.sum(1), atol=1e-5, rtol=1e-4)
    save(tmp_path / "bundle", mean)
    model = load(tmp_path / "bundle")
    assert model.text is not None
    with torch.no_grad():
        assert torch.equal(model.text(texts), found)


def test_a_text_tower_that_cannot_be_had_says_so(folders: Callable[[str], str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="transformers can't load"):
        TextEncoder(f"hf:{tmp_path}")
    folder = Path(tiny_clip(tmp_path / "clip"))
    tensors = read_safetensors(folder / "model.safetensors")
    kept = {name: each for name, each in tensors.items() if name != "text_projection.weight"}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 of its tensors \(text_projection.weight\)"):
        TextEncoder(f"hf:{folder}")


def test_what_is_known_before_weights_are_read(folders: Callable[[str], str], tmp_path: Path) -> None:
    import transformers

    assert about(f"hf:{folders('clip')}") == (("image", "text"), 32)
    assert about(f"hf:{folders('dinov3')}") == (("image",), 32)
    assert about(f"hf:{folders('convnext')}") == (("image",), 32)  # what it was trained with, though it takes any
    save(tmp_path / "bundle", TextEncoder(f"hf:{folders('clip')}"))
    assert about(f"hf:{tmp_path / 'bundle' / 'text'}") == (("text",), 0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    with no_progress_bars():
        transformers.BertModel(transformers.BertConfig(vocab_size=9, **sizes)).save_pretrained(tmp_path / "bert")
    assert about(f"hf:{tmp_path / 'bert'}") == (("text",), 0)


@pytest.mark.parametrize("form", ["one file", "shards", "pickle"])
def test_what_joins_the_towers_is_read_from_any_form_of_weights(
    form: str, folders: Callable[[str], str], tmp_path: Path
) -> None:
    from transformers import AutoModel

    for name, *of in (("clip", 24, 0.02, None), ("siglip", 32, 0.05, -7.0)):
        folder = tmp_path / name
        shutil.copytree(folders(name), folder)
        file = folder / "model.safetensors"
        if form == "pickle":
            torch.save(read_safetensors(file), folder / "pytorch_model.bin")
            file.unlink()
        if form == "shards":
            with no_progress_bars():
                AutoModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="100KB")
            file.unlink()
            assert len(list(folder.glob("*.safetensors"))) > 1
        found = joint(f"hf:{folder}")
        assert found is not None
        assert found == (of[0], pytest.approx(of[1]), of[2])
        backbone = ImageEncoder(f"hf:{folder}").backbone
        assert (backbone.temperature, backbone.bias) == found[1:]
    assert joint(f"hf:{folders('vit')}") is None
    assert joint("resnet18") is None


@pytest.mark.parametrize("name", ["clip", "siglip", "vit"])
def test_a_model_is_used_without_training(name: str, folders: Callable[[str], str], tmp_path: Path) -> None:
    """Both towers of a joint one, so that words find images; the same wherever its folder lies."""
    model = load(f"hf:{folders(name)}")
    images = [Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)) for seed in (0, 1)]
    found = model.embed(images)
    theirs = as_the_library(folders(name), model.image.prepare(images))
    np.testing.assert_allclose(found, torch.nn.functional.normalize(theirs), atol=1e-5)
    if name != "vit":
        words = torch.nn.functional.normalize(texts_as_the_library(folders(name), TEXTS[:2]))
        np.testing.assert_allclose(model.embed_text(TEXTS[:2]), words, atol=1e-5)
    shutil.copytree(folders(name), tmp_path / "moved")
    assert load(f"hf:{tmp_path / 'moved'}").fingerprint == model.fingerprint
