"""Embeddings of a whole dataset, in its order."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pullpush.errors import UserError
from pullpush.modes import evaluating
from pullpush.transfer import arriving, moved

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
    first = next(encoder.parameters(), None)
    target = torch.device(device or (first.device if first is not None else "cpu"))
    if not isinstance(dataset, DataLoader):
        # a generator of its own: the loader would draw its base seed from the global one
        seeded = torch.Generator().manual_seed(0)
        options: Any = {"num_workers": workers, "generator": seeded, "pin_memory": target.type == "cuda"}
        dataset = DataLoader(dataset, batch_size=batch_size, **options)
    total = len(dataset.dataset)
    if not total:
        raise UserError("the dataset to embed is empty; check its split or its filter.")
    parts, labels, ids = list[Tensor](), list[Tensor](), list[Tensor]()

    def computed() -> Iterator[Tensor]:
        for images, label, one in dataset:
            labels.append(torch.as_tensor(label))
            ids.append(torch.as_tensor(one))
            yield encoder(moved(images, target)).float()

    done = 0
    with evaluating(encoder), torch.inference_mode():
        for part in arriving(computed()):
            parts.append(part)
            done += len(part)
            if progress:
                progress(done, total)
    # clones, since tensors made in inference mode cannot enter autograd
    embeddings, numbers, own = (torch.cat(each).clone() for each in (parts, labels, ids))
    return Embedded(embeddings, numbers.long(), own.long())
