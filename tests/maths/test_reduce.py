"""What an empty row gives, and that NaN and gradients get through."""

import math

import pytest
import torch

from pullpush.maths import reduce
from pullpush.maths.reduce import cells_of
from pullpush.maths.similarity import dot, normalize

MASK = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
X = torch.tensor([[1.0, math.nan, 3.0], [5.0, 6.0, 7.0], [-900.0, 1.0, 2.0]])
# name, values of the rows; the second row is empty, the NaN of the first is masked out
ROWS = {
    "sum_of": (4.0, 0.0, -897.0),
    "mean_of": (2.0, 0.0, -299.0),
    "max_of": (3.0, -math.inf, 2.0),
    "min_of": (1.0, math.inf, -900.0),
    "logsumexp_of": (math.log(math.e + math.e**3), torch.finfo(torch.float32).min / 4, math.log(math.e + math.e**2)),
    "log1p_sum_exp": (math.log(1 + math.e + math.e**3), 0.0, math.log(1 + math.e + math.e**2)),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(name):
    function = vars(reduce)[name]
    x = X.clone().requires_grad_()
    found = function(x, MASK)
    torch.testing.assert_close(found, torch.tensor(ROWS[name]))
    torch.testing.assert_close(function(X.T, MASK.T, dim=0), found.detach())
    gradient = torch.autograd.grad(found[[0, 2]].sum(), x)[0]
    assert gradient.isfinite().all()
    assert (gradient[~MASK] == 0).all()
    assert function(torch.full((1, 2), math.nan), torch.ones(1, 2, dtype=torch.bool)).isnan()


@pytest.mark.parametrize("name", ["logsumexp_of", "log1p_sum_exp"])
@pytest.mark.parametrize("x", [-1e4, 1e4, 1e30])
def test_exponentials_keep_to_their_range(name, x):
    values = torch.tensor([[x, x, 0.0]], requires_grad=True)
    found = vars(reduce)[name](values, torch.tensor([[True, True, False]]))
    wanted = x + math.log(2)
    assert found.item() == pytest.approx(max(wanted, 0.0) if name == "log1p_sum_exp" else wanted)
    assert torch.autograd.grad(found.sum(), values)[0].isfinite().all()


def test_counts():
    assert reduce.count_of(MASK).tolist() == [2.0, 0.0, 3.0]
    assert reduce.any_of(MASK).tolist() == [True, False, True]
    assert reduce.widen(X.bfloat16()).dtype == reduce.widen(X.half()).dtype == torch.float32
    assert reduce.widen(X.double()).dtype == torch.float64


def test_two_sums_of_exponentials_compiled_are_those_of_each():
    """Rows with both sides, one side or none; numbers that overflow; a NaN."""
    nan = math.nan
    x = torch.tensor([[1.0, -2.0, 800.0], [0.5, 0.1, 3.0], [2.0, 1.0, 0.0], [nan, 1.0, 2.0]], requires_grad=True)
    first = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.bool)
    second = torch.tensor([[0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 1, 1]], dtype=torch.bool)
    compiled = torch.compile(reduce.logsumexp_of_two, backend="eager", fullgraph=True)
    expected = reduce.logsumexp_of(x, first), reduce.logsumexp_of(-3 * x, second)
    for ours, wanted in zip(compiled(x, first, -3 * x, second), expected, strict=True):
        torch.testing.assert_close(ours, wanted, equal_nan=True)
        gradients = [torch.autograd.grad(each[:3].sum(), x, retain_graph=True)[0][:3] for each in (ours, wanted)]
        torch.testing.assert_close(*gradients)
        assert gradients[0].isfinite().all()


@pytest.mark.parametrize("shape", [(8, 24), (5, 7), (16, 16)])
def test_cells_of_a_mask_are_its_cells_where_they_are_few(shape):
    g = torch.Generator().manual_seed(0)
    few = torch.rand(shape, generator=g) < 0.01
    few[2, 3] = few[-1, -1] = True
    for mask in (few, few[1:], few[:, 1:], few.T):
        found = cells_of(mask)
        if found is not None:
            assert torch.equal(found, mask.reshape(-1).nonzero().view(-1))
    assert (cells_of(few) is None) == (few.numel() % 8 != 0)
    assert cells_of(torch.ones(shape, dtype=torch.bool)) is None


@pytest.mark.parametrize("rows", [1, 5])
def test_unit_vectors_and_their_products_have_gradients_of_the_gradient(rows):
    x = torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for function in (normalize, lambda x: dot(x, x)):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)
    torch.testing.assert_close(normalize(x).detach(), normalize(x.detach()))
    torch.testing.assert_close(dot(x, x), dot(x, x.clone()))
    far = torch.cat([x.detach(), 1e200 * x.detach(), 0 * x.detach()]).requires_grad_()
    torch.testing.assert_close(normalize(far)[rows : 2 * rows], normalize(x))
    assert not normalize(far)[2 * rows :].any()
