"""Tensors from the CPU to a device and back, while both go on with their work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pullpush.errors import UserError

__all__ = ["arriving", "device_of", "fetched", "moved"]

# Kinds of devices that copy from pinned memory while they compute.
PINNED = {"cuda"}


def device_of(name: str) -> torch.device:
    """A device by its name, such as `cpu`, `cuda`, `cuda:1` or `mps`; `auto` is the GPU by CUDA, or the CPU where there
    is none.

    Raises:
        UserError: it is none, or is not there.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"no device {name!r}: {first}; give auto, cpu, or cuda:1 for the second GPU") from None
    return device


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
