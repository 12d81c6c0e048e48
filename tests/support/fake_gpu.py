"""A GPU that is none: tensors of the device "meta" have shapes and no values, so whoever waits for one is seen."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pullpush import transfer

__all__ = ["GPU", "fake_gpu"]

GPU = torch.device("meta")
# What gives a value, or a size that follows from values.
ASKING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"}
COPYING = {"_to_copy", "copy_", "to"}  # to: in inference mode


class Waiting(TorchDispatchMode):
    """Notes where the CPU would wait for the GPU: it asks for a value, or copies without saying that it need not wait,
    or from memory that is not pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.found = list[str]()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = op.overloadpacket.__name__
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_gpu = any(x.device == GPU for x in tensors)
        if on_gpu and name in ASKING:
            self._note(name)
            if name == "_local_scalar_dense":
                return 1.0 if tensors[0].is_floating_point() else 1
            if name == "nonzero":
                return torch.empty(1, tensors[0].ndim, dtype=torch.int64, device=GPU)
        if name in COPYING:
            source, target = (args[1], args[0].device) if name == "copy_" else (args[0], kwargs.get("device"))
            target = source.device if target is None else torch.device(target)
            if (source.device == GPU) != (target == GPU):
                free = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
                if not (free and (source.device == GPU or getattr(source, "pinned", False))):
                    self._note(f"copy from {'GPU' if source.device == GPU else 'CPU'}")
                if source.device == GPU:
                    return torch.ones(source.shape, dtype=kwargs.get("dtype", source.dtype))
        elif name.startswith("index") and any(x.device != GPU and x.ndim for x in tensors) and on_gpu:
            self._note("index of the CPU")
        return op(*args, **kwargs)

    def made(self, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A function that makes a tensor of Python's numbers: on the GPU, they are copied there."""

        def call(*args: Any, **options: Any) -> Tensor:
            made = make(*args, **options)
            if made.device == GPU and not (isinstance(args[-1], Tensor) and args[-1].device == GPU):
                self._note("copy from CPU")
            return made

        return call

    def _note(self, what: str) -> None:
        frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename and f.filename != __file__]
        file = Path(frames[-1].filename)
        self.found.append(f"{what} in {file.parent.name}/{file.name}: {frames[-1].line}")


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Within it modules can go to `GPU`; what it yields gives the places at which it was waited for since the last
    time, once each."""

    def pin(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        copy.pinned = True  # type: ignore[attr-defined]
        return copy

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    monkeypatch.setattr(Tensor, "is_cuda", property(lambda x: x.device == GPU))
    monkeypatch.setattr("torch.nn.utils.clip_grad._device_has_foreach_support", lambda *args: True)
    monkeypatch.setattr(transfer, "PINNED", {GPU.type})
    with Waiting() as waiting:
        for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (Tensor, "new_tensor")):
            monkeypatch.setattr(owner, name, waiting.made(getattr(owner, name)))

        def found() -> list[str]:
            places, waiting.found = list(dict.fromkeys(waiting.found)), []
            return places

        yield found
