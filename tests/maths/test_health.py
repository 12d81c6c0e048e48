"""Measures of health against loops in float64, and against what is known of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pullpush.losses import n_pair
from pullpush.maths import health
from pullpush.maths.pairs import Pairs
from pullpush.maths.rectangle import Rectangle, value


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def test_mean_cosine_is_the_mean_over_all_pairs() -> None:
    x = random(7, 5)
    cosines = [float(unit(x)[i] @ unit(x)[j]) for i in range(7) for j in range(7) if i != j]
    assert health.mean_cosine(x) == pytest.approx(sum(cosines) / len(cosines), abs=1e-12)
    assert health.mean_cosine(x[:1].expand(4, -1) * torch.tensor([[1.0], [2], [3], [4]])) == pytest.approx(1)
    assert health.mean_cosine(x[:1]) == 0


def test_effective_rank_counts_equal_directions() -> None:
    assert health.effective_rank(torch.eye(9)[:6]) == pytest.approx(6)
    assert health.effective_rank(torch.ones(8, 5)) == pytest.approx(1)
    assert health.effective_rank(torch.zeros(3, 3)) == 0
    x = random(6, 4)
    values = torch.linalg.eigvalsh(x.mT @ x).clamp(min=0).sqrt()
    share = (values / values.sum()).tolist()
    assert health.effective_rank(x) == pytest.approx(math.exp(-sum(p * math.log(p) for p in share)))


def test_floor_is_reached_by_a_simplex_and_by_nothing_else() -> None:
    assert health.n_pair_floor(128) == pytest.approx(math.log(1 + 127 * math.exp(-128 / 127)))
    assert round(health.n_pair_floor(128), 2) == 3.86
    n = 6
    corners = unit(torch.eye(n, dtype=torch.float64) - 1 / n)
    positive = torch.eye(n, dtype=torch.bool)
    for temperature in (1.0, 0.2):
        found = value(n_pair(temperature=temperature)(Rectangle(corners @ corners.mT, Pairs(positive, ~positive))))
        assert float(found.detach()) == pytest.approx(health.n_pair_floor(n, temperature=temperature))


@given(st.integers(0, 10_000), st.integers(2, 9), st.sampled_from([1.0, 0.3, 0.07]))
def test_no_pairs_of_unit_vectors_fall_below_the_floor(seed: int, n: int, temperature: float) -> None:
    x, y = unit(random(n, 4, seed=seed)), unit(random(n, 4, seed=seed + 1))
    positive = torch.eye(n, dtype=torch.bool)
    for a, b in ((x, y), (x, x)):
        pairs = Pairs(positive, ~positive)
        found = value(n_pair(temperature=temperature)(Rectangle(a @ b.mT, pairs)))
        assert float(found) >= health.n_pair_floor(n, temperature=temperature) - 1e-9


def test_chance_is_the_loss_of_equal_similarities_and_its_gradient_is_zero() -> None:
    x = torch.ones(8, 4, dtype=torch.float64, requires_grad=True)
    y = torch.ones(8, 4, dtype=torch.float64, requires_grad=True)
    positive = torch.eye(8, dtype=torch.bool)
    similarity = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(y).mT
    found = value(n_pair(temperature=0.07)(Rectangle(similarity, Pairs(positive, ~positive))))
    assert float(found.detach()) == pytest.approx(health.n_pair_chance(7)) == pytest.approx(math.log(8))
    found.backward()
    assert float(x.grad.abs().max()) < 1e-12
    assert float(y.grad.abs().max()) < 1e-12


def test_modality_gap_and_drift() -> None:
    x, y = random(5, 3), random(6, 3, seed=1)
    apart = (sum(unit(x)) / 5 - sum(unit(y)) / 6).norm()
    assert health.modality_gap(x, y) == pytest.approx(float(apart))
    assert health.modality_gap(x, x) == 0
    z = random(5, 3, seed=2)
    assert health.drift(x, z) == pytest.approx(float(sum((unit(x) - unit(z)).square().sum(1)) / 5))
    assert health.drift(x, -x) == pytest.approx(4)


def test_dimensions() -> None:
    x = random(50, 6)
    x[:, 2] = 3.0
    assert health.dead_dimensions(x) == 1
    assert health.dead_dimensions(random(50, 6)) == 0
    x[:, 4] *= 1000
    assert health.dominating_share(x) > 0.99
    assert health.dominating_share(torch.ones(4, 3)) == 0
    assert health.largest_norm_error(unit(random(5, 3))) < 1e-12
    assert health.largest_norm_error(torch.tensor([[3.0, 4.0], [1.0, 0.0]])) == 4


def test_duplicates_and_effective_negatives() -> None:
    x = unit(random(6, 3))
    x[4] = x[1]
    negative = ~torch.eye(6, dtype=torch.bool)
    assert health.duplicate_share(x @ x.mT, negative) == pytest.approx(2 / 6)
    s = torch.zeros(2, 5, dtype=torch.float64)
    mask = torch.tensor([[True] * 4 + [False]] * 2)
    assert health.effective_negatives(s, mask, 0.1) == pytest.approx(4)
    s[:, 0] = 1
    assert health.effective_negatives(s, mask, 0.01) == pytest.approx(1)
    assert health.effective_negatives(s, ~mask & False, 0.01) == 0


def test_cells() -> None:
    s = random(5, 5)
    labels = torch.tensor([0, 0, 1, 1, 2])
    equal = labels[:, None] == labels[None]
    pairs = Pairs(equal & ~torch.eye(5, dtype=torch.bool), ~equal)
    found = health.cell_health(s, pairs)
    assert found.anchors == 5
    assert found.with_positive == pytest.approx(4 / 5)
    assert found.negatives == pytest.approx((3 * 4 + 4) / 5)
    assert found.positive == pytest.approx(float(sum(s[0, 1] + s[1, 0] + s[2, 3] + s[3, 2] for _ in [0]) / 4))
    hits = [float(s[i, j] > s[i][~equal[i]].max()) for i, j in ((0, 1), (1, 0), (2, 3), (3, 2))]
    assert found.nearest == pytest.approx(sum(hits) / 4)
    assert health.cell_health(torch.ones(5, 5), pairs).nearest == 0.5
