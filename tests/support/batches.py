"""Batches, and criteria for every loss, in float64."""

from typing import Any

import torch
from torch import Tensor

from pullpush.criterion import Criterion, CrossBatchMemory, Proxies
from pullpush.maths import losses

DIM = 6
CLASSES = 4
ALL = sorted(losses.REGISTRY)
TRAITS = {name: losses.REGISTRY[name]().traits for name in ALL}
BESIDE = [n for n in ALL if not TRAITS[n].proxies]
# Losses that look at the references among themselves would need memory x memory.
OF_ROWS = [n for n in BESIDE if not TRAITS[n].wants_references]


def batch(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, DIM, generator=g, dtype=torch.float64).requires_grad_(),
        torch.randint(CLASSES, (n,), generator=g),
    )


def criterion(name: str, **given: Any) -> Criterion:
    """Of any loss, with the proxies it needs."""
    if TRAITS[name].proxies:
        proxies = Proxies(CLASSES, DIM, per_class=losses.REGISTRY[name]().options.get("centers", 1)).double()
        given = {"proxies": proxies, **given}
    return Criterion(name, **given).double()


def value_and_gradient(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
    return [loss.detach(), *(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True))]


def assert_same(first: list[Tensor], second: list[Tensor], tolerance: float = 1e-10) -> None:
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def exact_memory(size, dim, **options):
    """A memory that is nothing but more columns: all that was written, as it was written."""
    exact = {"combine": "joint", "compensate": "none", "tolerance": 0}
    return CrossBatchMemory(size, dim, **{**exact, **options})
