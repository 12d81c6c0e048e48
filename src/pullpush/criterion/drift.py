"""How embeddings move from batch to batch: the motion that all have in common, and the drift of an item that is left.

Pure functions of tensors, which wait for no device. The formulas are those of `CrossBatchMemory`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["AGES", "Drift", "Moments", "limit", "moments", "moved", "update"]

# Drift is kept for ages of 1, 2 to 3, 4 to 7, ... batches, as an average in which each item seen again weighs a tenth;
# it is known where so many were seen.
AGES, NEW, KNOWN = 32, 0.1, 8


class Moments(NamedTuple):
    """Of a batch, dimension by dimension."""

    mean: Tensor
    std: Tensor


class Drift(NamedTuple):
    """Of items seen again."""

    changed: Tensor
    """float `[AGES]`: mean squared change by age, in powers of two."""
    seen: Tensor
    """int64 `[AGES]`: how many there were."""
    spread: Tensor
    """float `[]`: mean squared distance of any two items."""


def moments(batch: Tensor, before: Moments, only_mean: bool) -> Moments:
    """Of a batch `[n, dim]`, n > 1; those of the one before it where it is not finite. `only_mean`: the standard
    deviations stay."""
    finite = batch.isfinite().all()
    mean = torch.where(finite, batch.mean(0), before.mean)
    if only_mean:
        return Moments(mean, before.std)
    std = batch.std(0)
    return Moments(mean, torch.where(finite & (std.mean() > 0), std.clamp(min=1e-3 * std.mean()), before.std))


def moved(held: Tensor, now: Moments, unit_length: bool) -> Tensor:
    """Embeddings `[n, dim]`, held with the mean 0 and the standard deviation 1, as if they had moved as all have.
    `unit_length`: each is given the length 1."""
    there = torch.addcmul(now.mean.to(held.dtype), held, now.std.to(held.dtype))
    if unit_length:
        there.div_(there.norm(dim=1, keepdim=True).clamp_(min=torch.finfo(there.dtype).tiny))
    return there


def update(drift: Drift, batch: Tensor, change: Tensor, age: Tensor, again: Tensor) -> Drift:
    """The drift after another batch; as it was where that is not finite.

    Args:
        drift: before.
        batch: `[n, dim]`.
        change: squared distances of items from what is held of them, `[m]`.
        age: of what is held, in batches, int64 `[m]`.
        again: bool `[m]`, the items of which something is held.
    """
    finite = batch.isfinite().all()
    place = age.clamp(min=1).double().log2().long().clamp(max=AGES - 1)
    again = again & finite
    count = torch.zeros_like(drift.seen).index_add_(0, place, again.long())
    total = torch.zeros_like(drift.changed).index_add_(0, place, torch.where(again, change, 0.0))
    share = torch.where(drift.seen > 0, 1 - (1 - NEW) ** count, (count > 0).float())
    changed = drift.changed.lerp(total / count.clamp(min=1), share)
    spread = 2 * (batch - batch.mean(0)).square().sum() / max(len(batch) - 1, 1)
    spread = torch.where(finite, spread, drift.spread)
    return Drift(changed, drift.seen + count, drift.spread.lerp(spread, torch.where(drift.spread > 0, NEW, 1.0)))


def limit(drift: Drift, tolerance: float) -> Tensor:
    """The largest age, in batches, below the youngest that is known to have drifted further than `tolerance`, a share
    of the squared distance of any two items."""
    ages = torch.arange(AGES, device=drift.seen.device)
    far = (drift.seen >= KNOWN) & (drift.changed > tolerance * drift.spread)
    return 2 ** torch.where(far, ages, AGES).min() - 1
