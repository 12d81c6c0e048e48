"""Every regulariser against loops over its definition, and the laws that hold for all of them."""

import inspect

import pytest
import torch

from pullpush.maths.pairs import Pairs, make_pairs
from pullpush.maths.rectangle import AnchorLoss, value
from pullpush.maths.regularizers import REGISTRY

CASES = {
    "embedding_norm": [{}],
    "variance": [{}, {"target": 2.0, "epsilon": 0.1}],
    "covariance": [{}],
    "vicreg": [{}, {"invariance_weight": 1.0, "variance_weight": 2.0, "covariance_weight": 3.0, "target": 1.5}],
}
each_case = pytest.mark.parametrize(("name", "options"), [(name, o) for name in CASES for o in CASES[name]])


def columns(x):
    return list(zip(*x, strict=True))


def mean(x):
    return sum(x) / len(x)


def cov(a, b):
    return sum((u - mean(a)) * (v - mean(b)) for u, v in zip(a, b, strict=True)) / max(1, len(a) - 1)


def embedding_norm(x, y, positive):
    return mean([mean([sum(u * u for u in row) for row in side]) for side in (x, y)])


def variance(x, y, positive, *, target=1.0, epsilon=1e-4):
    return mean([max(0.0, target - (cov(c, c) + epsilon) ** 0.5) for c in columns(x)])


def covariance(x, y, positive):
    c = columns(x)
    return sum(cov(a, b) ** 2 for i, a in enumerate(c) for j, b in enumerate(c) if i != j) / len(c)


def vicreg(
    x, y, positive, *, invariance_weight=25.0, variance_weight=25.0, covariance_weight=1.0, target=1.0, epsilon=1e-4
):
    apart = [
        mean([(u - v) ** 2 for u, v in zip(a, b, strict=True)])
        for a, row in zip(x, positive, strict=True)
        for b, keep in zip(y, row, strict=True)
        if keep
    ]
    spread = [variance(z, None, None, target=target, epsilon=epsilon) for z in (x, y)]
    alike = mean(apart) if apart else 0.0
    overlap = covariance(x, None, None) + covariance(y, None, None)
    return invariance_weight * alike + variance_weight * mean(spread) + covariance_weight * overlap


ORACLES = {f.__name__: f for f in (embedding_norm, variance, covariance, vicreg)}


def views(n=6, dim=4, seed=0):
    """Two views of n images, and which belong together."""
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n, dim, generator=g, dtype=torch.float64) * torch.arange(1, dim + 1) / 2 for _ in range(2))
    images = torch.arange(n)
    return x, y, make_pairs(images, images, images, n + images)


def test_each_regularizer_is_tested():
    assert set(CASES) == set(ORACLES) == set(REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_docstring_has_formula_options_and_source(name):
    text = inspect.getdoc(REGISTRY[name])
    assert "$$" in text
    assert "Source:" in text
    for p in inspect.signature(REGISTRY[name]().function).parameters.values():
        assert f"{p.name}:" in text
        if p.kind is p.KEYWORD_ONLY:
            assert inspect.signature(ORACLES[name]).parameters[p.name].default == p.default


@each_case
def test_value_and_gradient_are_the_oracles(name, options):
    for seed in range(3):
        x, y, pairs = views(seed=seed)
        assert value(REGISTRY[name](**options)(x, y, pairs)).item() == pytest.approx(
            ORACLES[name](x.tolist(), y.tolist(), pairs.positive.tolist(), **options), rel=1e-10
        )
        inputs = (x.requires_grad_(), y.requires_grad_())
        assert torch.autograd.gradcheck(lambda a, b, p=pairs: value(REGISTRY[name](**options)(a, b, p)), inputs)


@each_case
def test_order_of_rows_does_not_matter(name, options):
    x, y, pairs = views()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    shuffled = Pairs(*(m[order][:, order] for m in pairs))
    torch.testing.assert_close(
        value(REGISTRY[name](**options)(x[order], y[order], shuffled)), value(REGISTRY[name](**options)(x, y, pairs))
    )


@each_case
def test_rows_added_up_are_the_whole(name, options):
    x, y, pairs = views()
    whole = REGISTRY[name](**options)(x, y, pairs)
    assert len(whole.total) == len(whole.count) == len(x)
    if not REGISTRY[name](**options).whole:
        parts = [REGISTRY[name](**options)(x[r], y, Pairs(*(m[r] for m in pairs))) for r in (slice(2), slice(2, 6))]
        joined = AnchorLoss(*(torch.cat(side) for side in zip(*parts, strict=True)))
        torch.testing.assert_close(value(joined), value(whole))


@each_case
@pytest.mark.parametrize("n", [1, 2, 5])
def test_finite_for_equal_embeddings_and_small_batches(name, options, n):
    x = torch.ones(n, 4, requires_grad=True)
    _, _, pairs = views(n)
    loss = value(REGISTRY[name](**options)(x, x, pairs))
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@each_case
def test_half_precision_is_computed_in_float32(name, options):
    x, y, pairs = views()
    half = [z.to(torch.bfloat16) for z in (x, y)]
    loss = REGISTRY[name](**options)(*half, pairs)
    assert loss.total.dtype == loss.count.dtype == torch.float32
    torch.testing.assert_close(value(loss), value(REGISTRY[name](**options)(*(z.float() for z in half), pairs)))


@each_case
def test_nan_is_not_hidden(name, options):
    x, y, pairs = views()
    x[0, 0] = torch.nan
    assert value(REGISTRY[name](**options)(x, y, pairs)).isnan()


@each_case
def test_compiler_takes_it_whole(name, options):
    torch._dynamo.reset()
    x, y, pairs = views()
    chosen = REGISTRY[name](**options)
    compiled = torch.compile(lambda *given: chosen(*given), backend="eager", fullgraph=True)
    torch.testing.assert_close(value(compiled(x, y, pairs)), value(chosen(x, y, pairs)))
