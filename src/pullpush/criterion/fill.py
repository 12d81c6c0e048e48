"""From what a memory is filled: some items of a loader, embedded by the present model."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Subset

__all__ = ["drawn"]


def drawn(loader: Iterable[Any], size: int, seed: int) -> Iterable[Any]:
    """Batches of `size` items of the data set of a DataLoader, drawn by the seed; anything else, and one of a
    stream, as it is."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    items = len(loader.dataset)  # type: ignore[arg-type]
    rows = torch.randperm(items, generator=torch.Generator().manual_seed(seed))[:size].tolist()
    return DataLoader(
        Subset(loader.dataset, rows),
        loader.batch_size or 64,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
    )
