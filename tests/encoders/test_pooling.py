"""Pooling: the backbone's own way where that is the same, GeM and attention by loops, bundles, graphs, explain."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pullpush.encoders import ImageEncoder, Model, load
from pullpush.encoders.bundle import save
from pullpush.encoders.graph import graphs_of
from pullpush.encoders.pooling import AttentionPool, GeM
from pullpush.errors import UserError

POOLS = ("cls", "mean", "gem", "attention")
SIZE = 64


def encoder(name: str, pool: Any, **options: Any) -> ImageEncoder:
    made = ImageEncoder(name, dim=8, weights="none", size=SIZE, pool=pool, **options)
    if isinstance(made.pool, AttentionPool):  # at its start it is the mean
        torch.nn.init.normal_(made.pool.keys, generator=torch.Generator().manual_seed(2))
    return made.eval()


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("test_vit", "cls"),
        ("test_convnext", "mean"),  # a norm behind the pooling
        ("test_efficientnet", "mean"),
        ("mobilenetv3_small_050", "mean"),  # a convolution behind the pooling
        ("swin_tiny_patch4_window7_224", "mean"),  # channels last
        ("test_vit2", "mean"),  # register tokens
    ],
)
def test_what_the_backbone_does_itself_is_the_same(name: str, pool: str) -> None:
    own, named = encoder(name, "auto"), encoder(name, pool)
    with torch.no_grad():
        torch.testing.assert_close(named(images()), own(images()))
    assert named.state_dict().keys() == own.state_dict().keys()


def test_gem_is_the_generalised_mean() -> None:
    pool, x = GeM(), torch.rand(2, 5, 3, dtype=torch.float64)
    expected = [[np.mean([float(v) ** 3 for v in x[n, :, k]]) ** (1 / 3) for k in range(3)] for n in range(2)]
    torch.testing.assert_close(pool.double()(x), torch.tensor(expected))
    with torch.no_grad():
        pool.p.fill_(1.0)
        torch.testing.assert_close(pool(x), x.mean(1))
        pool.p.fill_(200.0)
        torch.testing.assert_close(pool(x), x.amax(1), rtol=0.02, atol=0)
    assert torch.isfinite(torch.autograd.grad(pool(-x).sum(), pool.p)[0]).all()


def test_attention_is_a_weighted_mean_a_head() -> None:
    pool, x = AttentionPool(8).double().requires_grad_(False), torch.randn(2, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(pool(x), x.mean(1))
    torch.nn.init.normal_(pool.keys)
    expected = torch.zeros(2, 8, dtype=torch.float64)
    for n in range(2):
        for head in range(pool.heads):
            scores = [float(x[n, p] @ pool.keys[:, head]) / 8**0.5 for p in range(5)]
            weights = np.exp(scores) / np.exp(scores).sum()
            expected[n, head] = sum(w * float(x[n, p, head]) for p, w in enumerate(weights))
    torch.testing.assert_close(pool(x), expected)


@pytest.mark.parametrize("pool", ["gem", "attention"])
@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_a_learned_pooling_learns_and_stays_in_the_bundle(name: str, pool: str, tmp_path: Path) -> None:
    one, x = encoder(name, pool, freeze=True), images()
    with torch.no_grad():
        features = one.features(x)
        torch.testing.assert_close(one.from_features(features), one(x))
        assert features.shape[1] in (4 * one.width, 16 * one.width)
    groups = one.parameter_groups(1e-2)
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(
        p.numel()
        for module in (one.head, one.pool)
        for p in module.parameters()  # type: ignore[union-attr]
    )
    before = {key: value.clone() for key, value in one.pool.state_dict().items()}  # type: ignore[union-attr]
    optimizer = torch.optim.AdamW(groups)
    (one.from_features(features.detach())[:, 0].sum() ** 2).backward()
    optimizer.step()
    assert all(not torch.equal(value, before[key]) for key, value in one.pool.state_dict().items())  # type: ignore[union-attr]
    save(tmp_path / "model", one)
    again = load(tmp_path / "model").image
    assert again.pool_name == pool
    with torch.no_grad():
        assert torch.equal(again(x), one(x))
    (graph,) = graphs_of(load(tmp_path / "model"))
    program = torch.export.export(graph.module, graph.example, dynamic_shapes=graph.dynamic())
    seen = torch.rand(5, 3, SIZE, SIZE)
    torch.testing.assert_close(program.module()(seen), graph.module(seen))


@pytest.mark.parametrize(
    ("name", "pool", "exact"),
    [("test_vit", "mean", True), ("test_vit", "gem", False), ("test_efficientnet", "attention", False)],
)
def test_why_two_images_match_with_a_pooling(name: str, pool: str, exact: bool) -> None:
    model = Model([encoder(name, pool)], "none")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 60, 60, 3), np.uint8)
    match = model.explain(pixels[0], pixels[1])
    assert match.exact == exact
    assert match.map_a.sum() == pytest.approx(match.score, abs=1e-5)
    one, other = model.embed(pixels).astype(np.float64)
    assert match.score == pytest.approx(float(one @ other), abs=1e-5)
    by_class = Model([encoder("test_vit", "cls")], "none").explain(pixels[0], pixels[1])
    assert "pixels" in by_class.method


def test_a_class_token_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'test_convnext' has no class token to pool"):
        encoder("test_convnext", "cls")
    with pytest.raises(UserError, match="pool"):
        encoder("test_convnext", "median")
