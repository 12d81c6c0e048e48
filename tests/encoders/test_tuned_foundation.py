"""What learns in foundation models: of transformers each family with each way to tune it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pullpush.encoders import ImageEncoder, TextEncoder, load
from pullpush.encoders.bundle import save
from pullpush.encoders.stages import stages
from pullpush.encoders.tuning import checkpoint_gradients, tune
from pullpush.errors import UserError
from tests.support.tiny_models import TINY, tiny_clip

TUNES = ("last-stages", "lora", "all")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folder of each family."""
    return {name: make(tmp_path_factory.mktemp(name) / "model") for name, make in TINY.items()}


@pytest.mark.parametrize("family", TINY)
def test_each_family_with_each_way_to_tune_it(family: str, folders: dict[str, str], tmp_path: Path) -> None:
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for what in TUNES:
        encoder = ImageEncoder(f"hf:{folders[family]}", dim=8)
        before = {name: p.clone() for name, p in encoder.named_parameters()}
        assert len(stages(encoder.backbone)) > 2
        tune(encoder, what, 1)  # type: ignore[arg-type]
        learning = {name for name, p in encoder.backbone.named_parameters() if p.requires_grad}
        if what == "last-stages":
            assert learning == set(stages(encoder.backbone)[-1])
        elif "convnext" not in family:
            checkpoint_gradients(encoder)
        else:
            with pytest.raises(UserError, match="no gradient checkpointing: leave it out"):
                checkpoint_gradients(encoder)
        optimizer = torch.optim.AdamW(encoder.train().parameter_groups(1e-2))
        for _ in range(2):
            encoder(x)[:, 0].sum().backward()
            optimizer.step()
        assert {name for name, p in encoder.backbone.named_parameters() if p.grad is not None} <= learning
        for name, p in encoder.named_parameters():
            if what != "all" and not p.requires_grad:
                assert torch.equal(p, before[name.replace("base_layer.", "")])
        encoder.eval()
        save(tmp_path / what, encoder)
        with torch.no_grad():
            torch.testing.assert_close(load(tmp_path / what).image(x), encoder(x), atol=1e-5, rtol=0)


def test_a_text_tower_of_clip_with_adapters(tmp_path: Path) -> None:
    encoder = TextEncoder(f"hf:{tiny_clip(tmp_path / 'clip')}", dim=8)
    texts = ["a red apple", "two keys"]
    with torch.no_grad():
        start = encoder.features(texts)
    tune(encoder, "lora")
    for name, p in encoder.backbone.named_parameters():
        assert p.requires_grad == (".lora_" in name)
        if p.requires_grad:
            nn.init.normal_(p, std=0.05)
    save(tmp_path / "model", encoder.eval())
    model: Any = load(tmp_path / "model").encoders["text"]
    with torch.no_grad():
        assert (encoder.features(texts) - start).abs().max() > 1e-3
        torch.testing.assert_close(model(texts), encoder(texts), atol=1e-5, rtol=0)
