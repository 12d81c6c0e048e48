"""What learns: the head, the last stages, all; and nothing else changes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pullpush.encoders import ImageEncoder, TextEncoder, load
from pullpush.encoders.bundle import save
from pullpush.encoders.encoder import Encoder
from pullpush.encoders.tuning import stages, tune
from pullpush.errors import UserError
from tests.support.texts import small_text_model

MODELS = ("test_vit", "test_convnext", "test_efficientnet")
SIZE = 32


def image_encoder(name: str) -> ImageEncoder:
    """A tiny one with random weights."""
    return ImageEncoder(name, dim=8, weights="none", size=SIZE, frozen_norm=True)


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
