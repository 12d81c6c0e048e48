"""Tensors from the CPU to a device and back, while both go on with their work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["arriving", "fetched", "moved"]

# Kinds of devices that copy from pinned memory while they compute.
PINNED = {"cuda"}


def moved(inputs: Any, device: torch.device) -> Any:
    """Inputs on a device; what is no tensor, such as texts, as it is.

    A GPU copies from pinned memory while it computes; from any other it would first end what it has begun.
    """
    if not isinstance(inputs, Tensor):
        return inputs
    if device.type in PINNED and inputs.device.type == "cpu" and not inputs.is_pinned():
        inputs = inputs.pin_memory()
    return inputs.to(device, non_blocking=True)


def fetched(tensor: Tensor) -> Callable[[], Tensor]:
    """The way of a tensor to the CPU begins here; what is returned waits for its end, and gives it."""
    if tensor.device.type not in PINNED:
        return tensor.cpu
    copy = tensor.to("cpu", non_blocking=True)  # into pinned memory
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> Tensor:
        arrived.synchronize()
        return copy

    return wait


def arriving(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """The parts on the CPU, in their order. A GPU has begun the next one before the last one is waited for."""
    waiting: deque[Callable[[], Tensor]] = deque()
    for part in parts:
        waiting.append(fetched(part))
        if len(waiting) > int(part.device.type in PINNED):
            yield waiting.popleft()()
    for last in waiting:
        yield last()
