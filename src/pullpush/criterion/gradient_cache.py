"""Batches larger than memory: embed in chunks, one loss over all of them, backward in chunks."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

__all__ = ["cached_step", "chunked"]

Encoder = Callable[[Any], Tensor]


def cached_step(
    encoders: Sequence[Encoder],
    chunks: Sequence[Sequence[Any]],
    criterion: Callable[..., Tensor],
    *,
    backward: Callable[[Tensor], None] = torch.Tensor.backward,
) -> Tensor:
    """Adds the gradients of one loss over a whole batch to the parameters, with the memory of one chunk.

        loss = cached_step(
            [image_encoder, text_encoder], [chunked(images, 64), chunked(texts, 64)],
            lambda images, texts: criterion(images, labels, references=texts, reference_labels=labels),
        )
        optimizer.step()

    Each chunk is embedded without a graph; the loss of all embeddings gives the gradient of each; then each chunk is
    embedded again, with a graph and the same random numbers, and takes its part of the gradient back. Costs one more
    forward pass. Value and gradients are those of the whole batch, unless a layer mixes the samples of a batch.
    Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, RepL4NLP 2021.

    Args:
        encoders: a chunk of inputs to embeddings [n, dim]; one a tower. Different functions may share parameters.
        chunks: the inputs of each encoder, in chunks of whatever the encoder takes.
        criterion: the embeddings of each tower, [batch, dim] each, to the loss. Its own parameters get gradients too.
        backward: of the loss; give that of a gradient scaler where there is one.

    Returns:
        The loss, without a graph.

    Warns:
        UserWarning: an encoder normalises by batch statistics in training mode: those are the chunk's, not the batch's,
            and the running ones are updated twice.
    """
    for encoder in encoders:
        _warn_of_batch_norm(encoder)
    encoded = [[_embedded(encoder, chunk) for chunk in own] for encoder, own in zip(encoders, chunks, strict=True)]
    whole = [torch.cat([embedded for embedded, _ in tower]).requires_grad_() for tower in encoded]
    loss = criterion(*whole)
    backward(loss)
    left = [
        (encoder, chunk, state, gradient)
        for encoder, own, tower, x in zip(encoders, chunks, encoded, whole, strict=True)
        if x.grad is not None
        for chunk, (_, state), gradient in zip(own, tower, x.grad.split([len(e) for e, _ in tower]), strict=True)
    ]
    while left:
        encoder, chunk, state, gradient = left.pop(0)
        with _replayed(state), _without_sync(encoder, any(encoder is later for later, *_ in left)):
            torch.autograd.backward(encoder(chunk), gradient)
    return loss.detach()


def chunked(inputs: Any, size: int) -> list[Any]:
    """A tensor, or a list, in chunks of at most `size`."""
    return [inputs[i : i + size] for i in range(0, len(inputs), size)]


class _RandomState:
    """Of the processor, and of the accelerator that is in use."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


def _embedded(encoder: Encoder, chunk: Any) -> tuple[Tensor, _RandomState]:
    state = _RandomState()
    with torch.no_grad():
        return encoder(chunk), state


@contextlib.contextmanager
def _replayed(state: _RandomState) -> Any:
    present = _RandomState()
    state.restore()
    try:
        yield
    finally:
        present.restore()


def _without_sync(encoder: Encoder, more: bool) -> contextlib.AbstractContextManager[Any]:
    """DDP averages once, with its last chunk."""
    return encoder.no_sync() if more and isinstance(encoder, DistributedDataParallel) else contextlib.nullcontext()


def _warn_of_batch_norm(encoder: Encoder) -> None:
    modules = encoder.modules() if isinstance(encoder, nn.Module) else []
    if any(isinstance(m, _BatchNorm) and m.training for m in modules):
        warnings.warn(
            f"{type(encoder).__name__} normalises by batch statistics, which in chunks are not those of the batch: "
            "freeze them (frozen_norm, or .eval() on these layers), or the gradients are not those of the whole batch",
            stacklevel=3,
        )
