"""The text encoder and the two towers."""

import importlib.util

import pytest
import torch

from pullpush.encoders import ImageEncoder, Model, TextEncoder, TwoTowers
from pullpush.encoders import hub as hub_module
from pullpush.errors import UserError


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    return TextEncoder(dim=8)


def test_the_transformer_knows_meanings(text: TextEncoder) -> None:
    """Its pretrained weights arrived: paraphrases are nearer than strangers, whatever else is in the batch."""
    features = text.features(
        ["a smiling cat", "a kitten with a happy face", "a stock market report", "shares fell today"]
    )
    assert features.shape == (4, text.width)
    similarity = torch.nn.functional.cosine_similarity(features[:, None], features[None], dim=-1)
    assert min(similarity[0, 1], similarity[2, 3]) > similarity[:2, 2:].max() + 0.2
    torch.testing.assert_close(text.features(["a smiling cat"])[0], features[0], atol=1e-5, rtol=1e-4)


def test_embeddings_have_length_one_and_the_asked_dim(text: TextEncoder) -> None:
    embeddings = text(["a cat", "two dogs", ""])
    assert embeddings.shape == (3, 8)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    assert text([]).shape == (0, 8)
    assert set(text.tokenize(["a cat"])) >= {"input_ids", "attention_mask"}


def test_frozen_trains_the_head_alone(text: TextEncoder) -> None:
    text.train()
    assert not text.backbone.training
    assert {group["name"] for group in text.parameter_groups(1e-3)} == {"head/weights", "head/biases_and_norms"}
    text(["a cat", "two dogs"])[:, 0].sum().backward()
    assert all(p.grad is None for p in text.backbone.parameters())
    assert all(p.grad is not None for p in text.head.parameters())


def test_fine_tuned_trains_both() -> None:
    text = TextEncoder(dim=8, head="linear", freeze=False)
    assert text.backbone.training
    text(["a cat", "two dogs"])[:, 0].sum().backward()
    assert all(p.grad is not None for name, p in text.backbone.named_parameters() if "pooler" not in name)
    rates = {group["name"]: group["lr"] for group in text.parameter_groups(1e-3, backbone_scale=0.1)}
    assert rates["backbone/weights"] == pytest.approx(1e-4)
    assert rates["head/weights"] == 1e-3


def test_two_towers_share_a_space(text: TextEncoder) -> None:
    image = ImageEncoder("test_resnet", weights="none", size=32, dim=8)
    towers = TwoTowers(image, text)
    pictures, words = towers(torch.zeros(2, 3, 32, 32), ["a", "b", "c"])
    assert pictures.shape == (2, 8)
    assert words.shape == (3, 8)
    held = [id(p) for group in towers.parameter_groups(1e-3) for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in towers.parameters() if p.requires_grad)
    with pytest.raises(UserError, match="images are embedded in 4 dimensions, texts in 8"):
        TwoTowers(ImageEncoder("test_resnet", weights="none", size=32, dim=4), text)


def test_errors_name_the_input_and_the_cure(text: TextEncoder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "hub_reachable", lambda: False)
    with pytest.raises(UserError, match="'no-such-model' is neither a folder nor cached"):
        TextEncoder("no-such-model")
    with pytest.raises(UserError, match=str(tmp_path)):
        TextEncoder(str(tmp_path))
    with pytest.raises(UserError, match="'linear', 'mlp', 'none', not 'quadratic'"):
        TextEncoder(head="quadratic")
    for wrong in (None, float("nan"), 7):
        with pytest.raises(UserError, match=f"text number 1 is {wrong}, a .*: give strings"):
            Model([text], "").embed_text(["a cat", wrong])
    with pytest.raises(UserError, match="list of strings"):
        text("a cat")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'pullpush\[text\]'"):
        TextEncoder()
