"""From what a memory is filled: some items of a loader, embedded by the present model."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

__all__ = ["drawn", "evaluating"]


@contextmanager
def evaluating(encoder: Any) -> Iterator[None]:
    """Within it a module is in evaluation mode; then each module of it has its own mode back. Anything else stays as it
    is."""
    training = []
    if isinstance(encoder, nn.Module):
        training = [module for module in encoder.modules() if module.training]
        encoder.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def drawn(loader: Iterable[Any], size: int, seed: int) -> Iterable[Any]:
    """Batches of `size` items of the data set of a DataLoader, drawn by the seed; anything else as it is."""
    if not isinstance(loader, DataLoader):
        return loader
    items = len(loader.dataset)  # type: ignore[arg-type]
    rows = torch.randperm(items, generator=torch.Generator().manual_seed(seed))[:size].tolist()
    return DataLoader(
        Subset(loader.dataset, rows),
        loader.batch_size or 64,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
    )
