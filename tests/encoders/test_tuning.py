"""What learns: the head, the last stages, all; and nothing else changes."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from pullpush.encoders import ImageEncoder, TextEncoder, load
from pullpush.encoders.bundle import save
from pullpush.encoders.encoder import Encoder
from pullpush.encoders.lora import Lora, add_adapters, merged
from pullpush.encoders.stages import stages
from pullpush.encoders.tuning import checkpoint_gradients, tune
from pullpush.errors import UserError
from tests.support.texts import small_text_model

MODELS = ("test_vit", "test_convnext", "test_efficientnet")
SIZE = 32


def image_encoder(name: str) -> ImageEncoder:
    """A tiny one with random weights."""
    encoder = ImageEncoder(name, dim=8, weights="none", size=SIZE, frozen_norm=True)
    for each, parameter in encoder.named_parameters():
        if each.endswith(".gamma"):  # the scales of ConvNeXt's layers, by which at the start nearly nothing passes
            nn.init.ones_(parameter)
    return encoder


def trained(encoder: Encoder, inputs: Tensor, steps: int = 2, scale: float = 1.0) -> set[str]:
    """Trains it on something, and tells the names of the parameters that changed."""
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimizer = torch.optim.AdamW(encoder.parameter_groups(1e-2, backbone_scale=scale, weight_decay=1e-2))
    goal = torch.randn(len(inputs), encoder.dim, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        (encoder(inputs) - goal).square().mean().backward()
        optimizer.step()
    return {name for name, p in encoder.named_parameters() if not torch.equal(before[name], p)}


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("what", ["head", "last-stages", "all"])
def test_only_what_should_learn_changes_and_the_bundle_gives_the_same(name: str, what: str, tmp_path: Path) -> None:
    encoder = image_encoder(name)
    tune(encoder, what, last_stages=2)  # type: ignore[arg-type]
    groups = stages(encoder.backbone)
    learning = {"head": [], "last-stages": groups[-2:], "all": groups}[what]
    head = {"head.weight", "head.bias"}
    assert {n for n, p in encoder.named_parameters() if p.requires_grad} == head | {
        f"backbone.{each}" for group in learning for each in group
    }
    changed = trained(encoder, images())
    assert head <= changed
    assert all(p.requires_grad for n, p in encoder.named_parameters() if n in changed)
    if what != "head":
        assert any(f"backbone.{each}" in changed for each in groups[-1])
    if what == "all":
        assert any(f"backbone.{each}" in changed for each in groups[0])
    encoder.eval()
    save(tmp_path / "model", encoder)
    rebuilt = load(tmp_path / "model").image
    with torch.no_grad():
        assert torch.equal(rebuilt(images()), encoder(images()))
    assert rebuilt.freeze == encoder.freeze
    assert rebuilt.frozen_stages == encoder.frozen_stages


def test_as_many_stages_as_there_are_is_all() -> None:
    encoder = image_encoder("test_vit")
    tune(encoder, "last-stages", len(stages(encoder.backbone)))
    assert all(p.requires_grad for p in encoder.parameters())
    with pytest.raises(UserError, match="last_stages is 8, but 'test_vit' has 7 stages"):
        tune(encoder, "last-stages", 8)


def test_the_stages_of_a_text_model_are_its_layers(tmp_path: Path) -> None:
    encoder = TextEncoder(small_text_model(tmp_path / "text"), dim=8)
    groups = stages(encoder.backbone)
    assert sorted(each for group in groups for each in group) == sorted(
        n for n, _ in encoder.backbone.named_parameters()
    )
    assert "embeddings" in groups[0][0]
    assert "layer.0." in groups[1][0]
    tune(encoder, "last-stages", 1)
    learning = {n for n, p in encoder.backbone.named_parameters() if p.requires_grad}
    assert learning == set(groups[1])


@pytest.mark.parametrize("modules", ["all", "attention", "mlp"])
@pytest.mark.parametrize("name", MODELS)
def test_adapters_begin_at_the_base_and_end_merged(
    name: str, modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, base = image_encoder(name), image_encoder(name)
    lora = Lora(rank=2, modules=modules)
    if modules == "attention" and name != "test_vit":
        with pytest.raises(UserError, match=f"'{name}' has no modules of the kind 'attention'"):
            tune(encoder, "lora", lora=lora)
        return
    tune(encoder, "lora", lora=lora)
    x = images()
    torch.testing.assert_close(encoder.eval()(x), base.eval()(x))
    changed = trained(encoder.train(), x, steps=3)
    learning = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert changed == learning == {n for n in learning if ".lora_" in n or n.startswith("head.")}
    assert len(learning) > 2
    encoder.eval()
    assert (encoder.features(x) - base.features(x)).abs().max() > 1e-3
    save(tmp_path / "model", encoder)
    monkeypatch.setitem(sys.modules, "peft", None)  # an import of it would fail
    model = load(tmp_path / "model").image
    with torch.no_grad():
        torch.testing.assert_close(model(x), encoder(x), atol=1e-5, rtol=0)
    assert model.backbone.state_dict().keys() == base.backbone.state_dict().keys()


def test_the_modules_that_have_an_adapter() -> None:
    vit, convnet = image_encoder("test_vit"), image_encoder("test_efficientnet")
    tune(vit, "lora", lora=Lora(modules="mlp"))
    assert _adapted(vit, "blocks.0.") == ["mlp.fc1", "mlp.fc2"]
    tune(vit := image_encoder("test_vit"), "lora", lora=Lora(modules="attention"))
    assert _adapted(vit, "blocks.0.") == ["attn.qkv", "attn.proj"]
    tune(convnet, "lora")
    assert "conv_pw" in _adapted(convnet, "blocks.4.0.")
    assert "conv_dw" not in _adapted(convnet, "blocks.4.0.")


def _adapted(encoder: Encoder, prefix: str) -> list[str]:
    names = [n.partition(".lora_A")[0] for n, _ in encoder.backbone.named_parameters() if ".lora_A" in n]
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


class Attended(nn.Module):
    """As towers of open_clip have it: one module of torch for queries, keys and values; and a layer that is not called,
    as its weight is read by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.fc, self.read = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.fc(self.attn(x, x, x, need_weights=False)[0].mean(1)), self.read.weight)


def test_the_attention_of_torch_keeps_its_weights_to_the_bit() -> None:
    torch.manual_seed(0)
    net, x = Attended(), torch.randn(3, 5, 8)
    base = copy.deepcopy(net)
    add_adapters(net, Lora(rank=2), x, "net")
    torch.testing.assert_close(net(x), base(x))
    learning = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert not any(name.startswith("read") for name in learning)
    optimizer = torch.optim.AdamW(learning.values(), lr=0.1)
    for _ in range(3):
        net(x).square().sum().backward()
        assert all(p.grad is not None for p in learning.values())
        optimizer.step()
    state = net.state_dict()
    assert torch.equal(state["attn.base_layer.in_proj_weight"], base.attn.in_proj_weight)
    assert torch.equal(state["attn.base_layer.out_proj.base_layer.weight"], base.attn.out_proj.weight)
    whole = merged(net)
    assert (net(x) - base(x)).abs().max() > 0.1
    torch.testing.assert_close(whole(x), net(x), atol=1e-5, rtol=1e-5)
    assert whole.state_dict().keys() == base.state_dict().keys()


def test_adapters_of_a_text_model_are_merged_as_it_is_saved(tmp_path: Path) -> None:
    name = small_text_model(tmp_path / "text")
    encoder, base = TextEncoder(name, dim=8), TextEncoder(name, dim=8)
    tune(encoder, "lora", lora=Lora(rank=2, modules="attention"))
    names = {n for n, p in encoder.backbone.named_parameters() if p.requires_grad}
    assert all("attention" in each for each in names)
    for p in encoder.backbone.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.05)
    texts = ["a red apple", "two keys"]
    save(tmp_path / "model", encoder.eval())
    model = load(tmp_path / "model").encoders["text"]
    with torch.no_grad():
        torch.testing.assert_close(model(texts), encoder(texts), atol=1e-5, rtol=0)
        assert (base.features(texts) - encoder.features(texts)).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_the_rates_of_layers_are_those_of_timm(name: str) -> None:
    encoder = image_encoder(name)
    groups = encoder.parameter_groups(1e-3, backbone_scale=0.5, weight_decay=0.05, layer_decay=0.75)
    mine = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    theirs = param_groups_layer_decay(encoder.backbone, weight_decay=0.05, layer_decay=0.75)
    for group in theirs:
        for p in group["params"]:
            assert mine.pop(id(p)) == (pytest.approx(5e-4 * group["lr_scale"]), group["weight_decay"])
    assert set(mine) == {id(p) for p in encoder.head.parameters()}
    assert {lr for lr, _ in mine.values()} == {1e-3}
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names)
    assert names[0] == "backbone/1/weights"
    tune(encoder, "last-stages", 2)
    shorter = encoder.parameter_groups(1e-3, layer_decay=0.75)
    assert {group["name"] for group in shorter} < set(names)


def test_without_a_decay_there_are_two_groups_a_module() -> None:
    names = [group["name"] for group in image_encoder("test_vit").parameter_groups(1e-3)]
    assert names == [f"{part}/{kind}" for part in ("backbone", "head") for kind in ("weights", "biases_and_norms")]


@pytest.mark.parametrize("what", ["all", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_with_gradient_checkpointing_the_gradients_are_the_same(name: str, what: Any) -> None:
    plain, saving = image_encoder(name), image_encoder(name)
    for each in (plain, saving):
        each.frozen_norm = True
        tune(each, what)
    checkpoint_gradients(saving)
    for each in (plain, saving):
        each.train()(images()).square().sum(0)[0].backward()
    mine, theirs = dict(saving.named_parameters()), dict(plain.named_parameters())
    assert sum(p.grad is not None for p in mine.values()) > 4
    for each, parameter in mine.items():
        assert (parameter.grad is None) == (theirs[each].grad is None)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, theirs[each].grad)


def test_gradient_checkpointing_of_texts(tmp_path: Path) -> None:
    name = small_text_model(tmp_path / "text")
    plain, saving = (TextEncoder(name, dim=8, freeze=False) for _ in range(2))
    checkpoint_gradients(saving)
    called = 0

    def count(*_: Any) -> None:
        nonlocal called
        called += 1

    inner = next(m for n, m in saving.backbone.named_modules() if n.endswith("layer.0.attention"))
    inner.register_forward_pre_hook(count)
    for each in (plain, saving):
        each.train()(["a", "b c"]).square().sum(0)[0].backward()
    assert called == 2
    for mine, theirs in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_gradient_checkpointing_counts_no_statistics_twice() -> None:
    encoder = image_encoder("test_efficientnet")
    assert not encoder.frozen_norm  # random weights
    with pytest.raises(UserError, match="would count each batch twice"):
        checkpoint_gradients(encoder)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_an_adapter_is_kept_apart_from_its_base(kind: str, tmp_path: Path) -> None:
    """A few kilobytes, which give the embeddings of the merged model on the same base, in peft's own hands too."""
    encoder, inputs = _with_base(kind, tmp_path)
    base = copy.deepcopy(encoder.backbone)
    tune(encoder, "lora", lora=Lora(rank=2, keep="adapter"))
    with torch.no_grad():
        for name, parameter in encoder.backbone.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(std=0.1)
    wanted = encoder.eval()(inputs)
    save(tmp_path / "model", encoder)
    read = load(tmp_path / "model").encoders[kind]
    torch.testing.assert_close(read(inputs), wanted, rtol=0, atol=1e-5)
    assert (wanted - _with_base(kind, tmp_path)[0].eval()(inputs)).abs().max() > 1e-3
    folder = tmp_path / "model" / kind
    assert {each.name for each in folder.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    kept = sum(each.stat().st_size for each in (tmp_path / "model").rglob("*") if each.is_file())
    assert kept < 0.5 * sum(each.numel() * 4 for each in base.parameters())

    tensors = load_file(folder / "adapter_model.safetensors")
    peft = pytest.importorskip("peft", reason="the extra lora")
    theirs = peft.PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    for name, value in read.backbone.named_parameters():
        torch.testing.assert_close(value, dict(theirs.named_parameters())[name], rtol=0, atol=1e-6)
    save_file({name: value[:1] for name, value in tensors.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path / "model")


def test_an_adapter_leaves_no_second_backbone_behind_the_pooling(tmp_path: Path) -> None:
    """It would stay on the CPU when the model goes to another device."""
    encoder, inputs = _with_base("image", tmp_path, pool="mean")
    tune(encoder, "lora", lora=Lora(rank=2, keep="adapter"))
    save(tmp_path / "model", encoder.eval())
    read = load(tmp_path / "model").image
    torch.testing.assert_close(read(inputs), encoder(inputs), rtol=0, atol=1e-5)
    assert read._pooling is not None
    assert read._pooling.backbone is read.backbone


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    encoder, _ = _with_base("image", tmp_path)
    tune(encoder, "lora", lora=Lora(keep="adapter"))
    save(tmp_path / "model", encoder)
    other = ImageEncoder(TINY, weights="none", size=32, seed=1)
    torch.save(other.backbone.state_dict(), tmp_path / "base.pth")
    with pytest.raises(UserError, match="trained on other weights than those"):
        load(tmp_path / "model")
    with pytest.raises(UserError, match="random weights fit nothing"):
        tune(ImageEncoder(TINY, weights="none", size=32), "lora", lora=Lora(keep="adapter"))
    learning = ImageEncoder("test_resnet", weights="none", size=32)
    torch.save(learning.backbone.state_dict(), tmp_path / "resnet.pth")
    learning = ImageEncoder("test_resnet", weights=str(tmp_path / "resnet.pth"), size=32, frozen_norm=False)
    with pytest.raises(UserError, match="learn statistics"):
        tune(learning, "lora", lora=Lora(keep="adapter"))


TINY = "test_vit"


def _with_base(kind: str, folder: Path, **options: Any) -> tuple[Encoder, Any]:
    """An encoder whose backbone lies in a file or a folder, and something that it takes."""
    if kind == "text":
        if not (folder / "text").exists():
            small_text_model(folder / "text")
        return TextEncoder(str(folder / "text"), dim=4, head="linear", freeze=False), ["one", "and two more"]
    if not (folder / "base.pth").exists():
        torch.save(ImageEncoder(TINY, weights="none", size=32).backbone.state_dict(), folder / "base.pth")
    encoder = ImageEncoder(TINY, weights=str(folder / "base.pth"), size=32, dim=4, **options)
    return encoder, torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
