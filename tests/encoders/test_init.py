"""The start of a linear head at the principal components of features."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from pullpush.encoders.encoder import make_head, principal


def features(n: int, width: int, seed: int = 0) -> torch.Tensor:
    """Of different spread along a few hidden directions, around a common mean."""
    drawn = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=drawn) * torch.logspace(0, -2, width)
    return torch.randn(n, width, generator=drawn) @ mixing.T + 5


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_it_is_the_formula(whitening: float) -> None:
    """By loops in float64, up to the sign of each direction."""
    x, head = features(200, 12), make_head("linear", 12, 4)
    principal(head, x, whitening)
    a = x.numpy().astype(np.float64)
    mean = sum(a) / len(a)
    covariance = sum(np.outer(row - mean, row - mean) for row in a) / len(a)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:4], vectors.T[::-1][:4]
    floored = [max(value, 0.1 * sum(values) / 4) for value in values]
    rows = np.stack([v * value ** (-whitening / 2) for v, value in zip(vectors, floored, strict=True)])
    lengths = [sum((rows @ (row - mean)) ** 2) for row in a]
    c = math.sqrt(4 / 12 * sum(sum(row**2) for row in a) / sum(lengths))
    found = head(x).detach().numpy()
    expected = np.stack([c * rows @ (row - mean) for row in a])
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, expected * signs, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("n", [2, 5, 12, 40])
def test_directions_are_orthogonal_and_centred_however_few_the_features(n: int) -> None:
    head = make_head("linear", 12, 8)
    principal(head, features(n, 12))
    gram = nn.functional.normalize(head.weight) @ nn.functional.normalize(head.weight).T
    assert torch.allclose(gram, torch.eye(8), atol=1e-4)
    assert head(features(n, 12)).mean(0).abs().max() < 1e-3 * head(features(n, 12)).norm(dim=1).mean()


def test_outputs_are_as_long_as_those_of_a_random_projection() -> None:
    x, head = features(100, 64), make_head("linear", 64, 16)
    random = float(np.mean([float(make_head("linear", 64, 16)(x).square().sum(1).mean().detach()) for _ in range(100)]))
    principal(head, x)
    assert float(head(x).square().sum(1).mean().detach()) == pytest.approx(random, rel=0.1)


def test_no_random_projection_keeps_more_of_the_squared_distances() -> None:
    x, head = features(100, 12), make_head("linear", 12, 3)

    def kept(projection: nn.Linear) -> float:
        """For each squared unit of its rows."""
        found = torch.pdist(projection(x).detach()).square().sum() / projection.weight.detach().square().sum()
        return float(found)

    others = [kept(make_head("linear", 12, 3)) for _ in range(50)]
    principal(head, x, whitening=0)
    assert kept(head) > max(others)


def test_features_that_are_all_equal_give_a_head_of_numbers() -> None:
    head = make_head("linear", 6, 3)
    principal(head, torch.ones(5, 6))
    assert torch.isfinite(head.weight).all()
    assert torch.isfinite(head.bias).all()
