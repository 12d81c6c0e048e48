"""Joint models of open_clip as backbones, against the library itself."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file as read_safetensors
from safetensors.torch import save_file
from timm.models import group_parameters
from torch import Tensor

from pullpush.data.sources import open_items
from pullpush.encoders import ImageEncoder, TextEncoder, load, save
from pullpush.encoders import hub as hub_module
from pullpush.encoders.backbones import joint, own_size, text_backbone
from pullpush.encoders.explain import explain
from pullpush.encoders.graph import graphs_of
from pullpush.encoders.model import Model
from pullpush.errors import UserError
from pullpush.training.feature_cache import texts_key
from tests.support.tiny_open_clip import KINDS, TEXT, VISION, tiny_open_clip

SIDES = {"vit": 32, "quick": 32, "resnet": 64, "convnet": 64, "siglip": 160, "coca": 32, "bert": 32}
WORDS = ["a cat", "dogs and cats, many more than fit into the context of this small model", "", "Two  CATS &amp; dogs"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny model, written once."""
    root = tmp_path_factory.mktemp("open_clip")
    return lambda kind: str(root / kind) if (root / kind).exists() else tiny_open_clip(root / kind, kind)


def images_of(name: str, **options: Any) -> ImageEncoder:
    """Its image tower as it is."""
    return ImageEncoder(f"open_clip:{name}", **{"head": "none", "normalize": False, **options}).eval()


def texts_of(name: str, **options: Any) -> TextEncoder:
    return TextEncoder(f"open_clip:{name}", **{"head": "none", "normalize": False, **options}).eval()


def pixels(size: int, n: int = 3) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def oracle(folder: str, **options: Any) -> Any:
    return open_clip.create_model(f"local-dir:{folder}", **options).eval()


@pytest.fixture
def named(folders: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a tiny model one of open_clip's own, `tiny`, with weights of such tags."""

    def make(*tags: str, **about: Any) -> None:
        config = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
        file = {"file": f"{folders('vit')}/open_clip_model.safetensors", **about}
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", dict.fromkeys(tags, file))

    return make


@pytest.mark.parametrize("kind", ["vit", "siglip"])
def test_what_joins_the_towers_is_read_without_them(
    kind: str, folders: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = images_of(folders(kind)).backbone
    wanted = (64 if kind == "siglip" else 24, backbone.temperature, backbone.bias)
    pickled = Path(shutil.copytree(folders(kind), tmp_path / kind))
    (file,) = pickled.glob("*.safetensors")
    torch.save({"state_dict": read_safetensors(file)}, pickled / "open_clip_pytorch_model.bin")
    file.unlink()
    assert joint(f"open_clip:{pickled}") == wanted
    monkeypatch.setattr(open_clip, "CustomTextCLIP", None)
    assert joint(f"open_clip:{folders(kind)}") == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_both_towers_embed_as_the_library_does(kind: str, folders: Callable[[str], str]) -> None:
    model, side = oracle(folders(kind)), SIDES[kind]
    tokenize = open_clip.get_tokenizer(f"local-dir:{folders(kind)}")
    images, texts = images_of(folders(kind)), texts_of(folders(kind))
    assert images.preprocessing.size == own_size(f"open_clip:{folders(kind)}") == side
    assert images.loaded.matched == len(model.visual.state_dict())
    with torch.no_grad():
        found, wanted = images(pixels(side)), model.encode_image(pixels(side), normalize=False)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        assert found.std(0).max() > 1e-3  # images differ
        wanted = model.encode_text(tokenize(WORDS), normalize=False)
        torch.testing.assert_close(texts(WORDS), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(texts(WORDS[:1]), wanted[:1], atol=1e-5, rtol=1e-5)  # whatever else is in the batch
        assert wanted.std(0).max() > 1e-3
    for backbone in (images.backbone, texts.backbone):
        assert backbone.temperature == pytest.approx((-model.logit_scale).exp().item())
        assert backbone.bias == (None if model.logit_bias is None else model.logit_bias.item())


def test_texts_are_cut_to_their_tokens(folders: Callable[[str], str]) -> None:
    tokens = texts_of(folders("vit")).tokenize(["a cat", "two cats"])["input_ids"]
    assert (tokens.dtype, tokens.shape) == (torch.int64, (2, 4))  # the start, two words, the end: of 12
    assert texts_of(folders("siglip")).tokenize(["a cat"])["input_ids"].shape == (1, 12)  # it sees its padding
    assert texts_of(folders("vit"))([]).shape == (0, 24)


@pytest.mark.parametrize("kind", ["vit", "siglip"])
@pytest.mark.parametrize("box", [(0, 0, 72, 72), (0, 6, 72, 54), (20, 0, 50, 72)])
def test_preprocessing_is_the_librarys(
    kind: str, box: tuple[int, ...], folders: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of emoji, whole and in parts that are not square."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folders(kind)}")
    ours, items = images_of(folders(kind)), open_items("emoji")
    emoji = [items.open(row).crop(box) for row in range(0, len(items), len(items) // 4)]
    with torch.no_grad():
        wanted = model.eval().encode_image(torch.stack([preprocess(each) for each in emoji]), normalize=False)
        cosine = torch.cosine_similarity(ours(ours.prepare(emoji)), wanted)
    assert cosine.min() > 0.999


@pytest.mark.parametrize("kind", ["vit", "siglip"])
def test_positions_are_interpolated_as_the_library_does(kind: str, folders: Callable[[str], str]) -> None:
    model = oracle(folders(kind), force_image_size=96)
    with torch.no_grad():
        found = images_of(folders(kind), size=96)(pixels(96))
        torch.testing.assert_close(found, model.encode_image(pixels(96), normalize=False), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "size"), [*((kind, 0) for kind in KINDS), ("vit", 64), ("siglip", 96)])
def test_a_bundle_needs_neither_folder_nor_hub(
    kind: str, size: int, folders: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(folders(kind), gone)
    image = images_of(str(gone), size=size, dim=8, head="linear", normalize=True)
    text = texts_of(str(gone), dim=8, head="mlp", normalize=True)
    fingerprint = save(tmp_path / "bundle", image, text)
    shutil.rmtree(gone)
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: pytest.fail("asked the hub"))
    model = load(tmp_path / "bundle")
    assert model.fingerprint == fingerprint
    assert model.preprocessing == image.preprocessing
    assert model.text is not None
    assert save(tmp_path / "again", model.image, model.text) == fingerprint
    with torch.no_grad():
        x = pixels(image.preprocessing.size)
        assert torch.equal(model.image(x), image(x))
        assert torch.equal(model.text(WORDS), text(WORDS))
    for one, other in ((model.image, image), (model.text, text)):
        assert (one.backbone.temperature, one.backbone.bias) == (other.backbone.temperature, other.backbone.bias)


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnet", "siglip", "coca"])
def test_stages_begin_at_the_input(kind: str, folders: Callable[[str], str]) -> None:
    """Frozen stages do not learn, all behind them do."""
    encoder = ImageEncoder(f"open_clip:{folders(kind)}", frozen_stages=1, dim=4)
    backbone: Any = encoder.backbone
    for coarse in (False, True):
        groups = group_parameters(backbone, backbone.group_matcher(coarse=coarse))
        names = [each for number in sorted(groups) for each in groups[number]]
        assert sorted(names) == sorted(name for name, _ in backbone.named_parameters())
    assert len(groups) > 2
    encoder(pixels(SIDES[kind]))[:, 0].sum().backward()
    learned = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert learned == set(names) - set(groups[min(groups)])


@pytest.mark.parametrize(("kind", "method"), [("vit", "pixels"), ("quick", "last map"), ("convnet", "last map")])
def test_matches_are_explained(kind: str, method: str, folders: Callable[[str], str]) -> None:
    encoder = ImageEncoder(f"open_clip:{folders(kind)}", dim=8, size=64).eval()
    a, b = pixels(64, 2).split(1)
    match = explain(encoder, a, b)
    assert method in match.method
    with torch.no_grad():
        assert match.score == pytest.approx(float((encoder(a) * encoder(b)).sum()), abs=1e-5)
    for each in (match.map_a, match.map_b):
        assert each.sum() == pytest.approx(match.score, abs=1e-5)
        assert np.ptp(each) > 0


def test_checkpointed_gradients_are_the_same(folders: Callable[[str], str]) -> None:
    gradients = []
    for enable in (False, True):
        image = ImageEncoder(f"open_clip:{folders('vit')}", dim=4).train()
        text = TextEncoder(f"open_clip:{folders('vit')}", dim=4, freeze=False).train()
        for encoder in (image, text):
            encoder.backbone.set_grad_checkpointing(enable)
        (image(pixels(32))[:, 0].sum() + text(WORDS)[:, 0].sum()).backward()
        gradients.append([p.grad for each in (image, text) for p in each.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients)
    with pytest.raises(UserError, match="ResNets of open_clip have no gradient checkpointing"):
        images_of(folders("resnet")).backbone.set_grad_checkpointing()


def test_the_tokenizer_of_transformers_gives_the_same_tokens(folders: Callable[[str], str], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    ours = text_backbone(f"open_clip:{folders('vit')}")
    ours.tokenizer.save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    words = ["two dogs", "café, naïve: 12.5%", "a cat's whiskers " * 4, ""]
    given = theirs(words, padding=True, truncation=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        wanted = ours(ours.preprocess(words))["sentence_embedding"]
        torch.testing.assert_close(ours({"input_ids": given})["sentence_embedding"], wanted, atol=1e-5, rtol=1e-5)


def test_an_exported_text_tower_takes_any_number_of_tokens(folders: Callable[[str], str]) -> None:
    encoder = texts_of(folders("vit"), normalize=True)
    (graph,) = graphs_of(Model([encoder], ""))
    made = torch.export.export(graph.module, graph.example, dynamic_shapes=graph.dynamic()).module()
    for words in (["a cat"], WORDS):
        with torch.no_grad():
            found = made(encoder.tokenize(words)["input_ids"])
            torch.testing.assert_close(found, encoder(words), atol=1e-5, rtol=1e-5)


def test_names_and_tags_are_the_librarys(named: Callable[..., None], folders: Callable[[str], str]) -> None:
    wanted = images_of(folders("vit"))
    named("ours")
    x = pixels(32)
    with torch.no_grad():
        for name in ("tiny", "tiny:ours", "tiny:OURS", f"tiny:{folders('vit')}/open_clip_model.safetensors"):
            torch.testing.assert_close(images_of(name)(x), wanted(x))
            torch.testing.assert_close(texts_of(name)(WORDS), texts_of(folders("vit"))(WORDS))
    named("ours", quick_gelu=True, mean=(0.1, 0.2, 0.3), interpolation="bilinear")
    with torch.no_grad():  # with the activations that its weights were trained with
        assert not torch.allclose(images_of("tiny")(x), wanted(x), atol=1e-4)
    for one, other in ((images_of("tiny"), wanted), (texts_of("tiny"), texts_of(folders("vit")))):
        assert texts_key(one.backbone, "", WORDS) != texts_key(other.backbone, "", WORDS)  # of one state dict
    loaded = images_of("tiny").loaded
    assert (loaded.mean, loaded.fit) == ((0.1, 0.2, 0.3), "crop bilinear")
    named("one", "other")
    with pytest.raises(UserError, match="several pretrained weights of 'tiny'; name one of one, other: open_clip:tiny"):
        images_of("tiny")
    with pytest.raises(UserError, match=r"no weights 'othr' for 'tiny', and no such file is there; .*other"):
        images_of("tiny:othr")
    named()
    with pytest.raises(UserError, match="no pretrained weights of 'tiny'; give a file"):
        images_of("tiny")


@pytest.mark.parametrize("name", ["tiny:ours", "hf-hub:we/tiny"])
def test_a_bundle_holds_the_towers_of_any_name(
    name: str,
    folders: Callable[[str], str],
    named: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tag of weights and a place on the hub have colons of their own."""
    named("ours")
    text = texts_of(folders("vit"))
    text.name = f"open_clip:{name}"
    save(tmp_path / "model", images_of(folders("vit")), text)
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: False)
    read = load(tmp_path / "model").encoders["text"]
    assert read.name == text.name
    with torch.no_grad():
        torch.testing.assert_close(read(WORDS), text(WORDS))


def test_weights_are_random_or_those_of_a_file(folders: Callable[[str], str], tmp_path: Path) -> None:
    folder, x = folders("vit"), pixels(32)
    tensors = read_safetensors(f"{folder}/open_clip_model.safetensors")
    own = images_of(folder)
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "epoch_3.pt")
    save(tmp_path / "bundle", own)
    with torch.no_grad():
        for file in (tmp_path / "epoch_3.pt", tmp_path / "bundle" / "model.safetensors"):
            again = images_of(folder, weights=str(file))
            assert torch.equal(again(x), own(x))
            assert again.loaded.source == f"file {file.name}"
        drawn = images_of(folder, weights="none", seed=5)
        assert not torch.allclose(drawn(x), own(x), atol=0.01)
    assert (drawn.loaded.source, drawn.loaded.matched) == ("none", 0)
    save_file({k: v for k, v in tensors.items() if "ln_post" not in k}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"part.safetensors' are not those of .* at 32 px: .*visual.ln_post"):
        images_of(folder, weights=str(tmp_path / "part.safetensors"))
    with pytest.raises(UserError, match="no weights at 'timm'"):
        images_of(folder, weights="timm")
    with pytest.raises(UserError, match=r"not those of .* at 96 px"):  # its pooling is built for one size
        images_of(folders("resnet"), size=96)


@pytest.mark.parametrize("kind", ["vit", "siglip"])
def test_a_joint_model_searches_as_it_is(kind: str, folders: Callable[[str], str], tmp_path: Path) -> None:
    """By its folder, wherever that lies: cosines of images and texts are the library's."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folders(kind)}")
    tokenize, items = open_clip.get_tokenizer(f"local-dir:{folders(kind)}"), open_items("emoji")
    emoji = [items.open(row) for row in (0, 7000)]
    with torch.no_grad():
        images = model.eval().encode_image(torch.stack(list(map(preprocess, emoji))), normalize=True)
        wanted = images @ model.encode_text(tokenize(WORDS), normalize=True).T
    ours = load(f"open_clip:{folders(kind)}")
    np.testing.assert_allclose(ours.embed(emoji) @ ours.embed_text(WORDS).T, wanted, atol=2e-3)
    shutil.copytree(folders(kind), tmp_path / "elsewhere")
    assert load(f"open_clip:{tmp_path / 'elsewhere'}").fingerprint == ours.fingerprint


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_no_code_of_a_checkpoint_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(tiny_open_clip(tmp_path / "vit"))
    tensors = read_safetensors(folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no weights in '.*vit': open_clip_model.safetensors is missing"):
        images_of(str(folder))
    torch.save({**tensors, "evil": Evil()}, folder / "open_clip_pytorch_model.bin")
    for weights in ("auto", str(folder / "open_clip_pytorch_model.bin")):
        with pytest.raises(UserError, match=r"open_clip_pytorch_model.bin'"):
            images_of(str(folder), weights=weights)
    assert not Path("ran").exists()
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    assert images_of(str(folder)).loaded.source == "open_clip"


def test_errors_name_the_input_and_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: False)
    cases: list[tuple[str, str]] = [
        ("ViT-B-33", r"'ViT-B-33' is no model of open_clip; did you mean ViT-B-32"),
        ("models/clip", r"'models/clip' is no model of open_clip and no folder"),
        ("ViT-B-32", r"several pretrained weights of 'ViT-B-32'; name one of openai, laion400m_e31"),
        ("ViT-B-32:laion", r"no weights 'laion' for 'ViT-B-32'"),
        ("ViT-B-16-SigLIP", r"'ViT-B-16-SigLIP:webli' is not cached, and can't be had from the model hub"),
        ("hf-hub:no/such", r"'hf-hub:no/such' is not cached, and can't be had from the model hub"),
        (str(tmp_path), r"no open_clip_config.json in .*one that transformers wrote is named hf:FOLDER"),
    ]
    handlers = list(logging.root.handlers)
    for name, message in cases:
        for of in (ImageEncoder, TextEncoder):
            with pytest.raises(UserError, match=message):
                of(f"open_clip:{name}")
    assert logging.root.handlers == handlers
    config = Path(tiny_open_clip(tmp_path / "vit"), "open_clip_config.json")
    good = json.loads(config.read_text())
    for change, message in (
        ({"model_cfg": {"embed_dim": 3}}, "model_cfg must have embed_dim, vision_cfg, text_cfg"),
        ({"model_cfg": {**good["model_cfg"], "colour": 1}}, "can't build .*colour"),
        ({"model_cfg": {**good["model_cfg"], "embed_dim": 23}}, "weights in .* are not those of .*size mismatch"),
        ({"model_cfg": {**good["model_cfg"], "vision_cfg": {**VISION, "image_size": [32, 64]}}}, "32 x 64 .* squares"),
        ({"model_cfg": 7}, "model_cfg"),
    ):
        config.write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=message):
            ImageEncoder(f"open_clip:{config.parent}")
    config.write_text(json.dumps(good))
    with pytest.raises(UserError, match=r"can't take 40 x 40 images: its patches have 16 pixels.*--encoder.size"):
        ImageEncoder(f"open_clip:{config.parent}", size=40)


def test_a_damaged_text_tower_is_refused(folders: Callable[[str], str], tmp_path: Path) -> None:
    save(tmp_path / "bundle", images_of(folders("vit")), texts_of(folders("vit")))
    tower = text_backbone(f"open_clip:{tmp_path / 'bundle' / 'text'}")
    assert tower.get_embedding_dimension() == 24
    assert tower.max_seq_length == 12
    (tmp_path / "bundle" / "text" / "open_clip_text.json").write_text("{}")
    with pytest.raises(UserError, match=r"open_clip_text.json"):
        text_backbone(f"open_clip:{tmp_path / 'bundle' / 'text'}")
