"""Embeddings of a whole dataset, in its order."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pullpush.errors import UserError
from pullpush.modes import evaluating

__all__ = ["Embedded", "embed"]


class Embedded(NamedTuple):
    """Embeddings with what they belong to, on the CPU, in the order of the dataset."""

    embeddings: Tensor
    """float32 `[n, dim]`."""
    labels: Tensor
    """int64 `[n]`."""
    ids: Tensor
    """int64 `[n]`."""


def embed(
    encoder: nn.Module,
    dataset: Any,
    *,
    batch_size: int = 128,
    device: str | torch.device | None = None,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Embedded:
    """Embed every item of `dataset`, without gradients and in evaluation mode.

    The encoder's training mode, module by module, is put back afterwards, and no global random state is touched, so
    evaluating in the middle of training changes nothing in it.

    Args:
        encoder: called with a batch of images, gives `[n, dim]`.
        dataset: gives `(image, label, id)`; or a `DataLoader` over such, with `batch_size` and `workers` of its own.
        device: where to compute; default: where the encoder's parameters are.
        workers: processes that load images.
        progress: called with (items done, items in all) after each batch.

    Raises:
        UserError: for an empty dataset.
    """
    if not isinstance(dataset, DataLoader):
        # a generator of its own: the loader would draw its base seed from the global one
        seeded = torch.Generator().manual_seed(0)
        dataset = DataLoader(dataset, batch_size=batch_size, num_workers=workers, generator=seeded)
    total = len(dataset.dataset)
    if not total:
        raise UserError("the dataset to embed is empty; check its split or its filter.")
    first = next(encoder.parameters(), None)
    target = torch.device(device or (first.device if first is not None else "cpu"))
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    with evaluating(encoder), torch.inference_mode():
        for images, labels, ids in dataset:
            embeddings = encoder(images.to(target, non_blocking=True))
            parts.append((embeddings.float().cpu(), torch.as_tensor(labels), torch.as_tensor(ids)))
            done += len(embeddings)
            if progress:
                progress(done, total)
    embeddings, labels, ids = (torch.cat(part) for part in zip(*parts, strict=True))
    # clones, since tensors made in inference mode cannot enter autograd
    return Embedded(embeddings.clone(), labels.long().clone(), ids.long().clone())
