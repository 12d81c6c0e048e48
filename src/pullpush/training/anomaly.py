"""The first tensor that was not finite, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pullpush.runs.checkpoint import LAST, load_last, not_of_this_run
from pullpush.training.callbacks import Callback

if TYPE_CHECKING:
    from pullpush.training.loop import Run

__all__ = ["Anomaly", "FirstBadTensor"]


class FirstBadTensor(Callback):
    """Where the loss is no number: does the steps since the last checkpoint again, and looks at every tensor."""

    def on_not_finite(self, run: Run, step: int) -> None:
        if run.fabric.world_size > 1:
            return
        with not_of_this_run(run.folder / LAST):
            run.load(load_last(run.folder))
        batches = run.task.batches(run.step)
        with Anomaly(run.task.step) as anomaly:
            for again in range(run.step + 1, step + 1):
                run.do(again, next(batches))
                anomaly.weights()
                if anomaly.first:
                    run.not_finite = f"{anomaly.first} at step {again}"
                    return


class Anomaly:
    """While it is entered, looks at each output of each module and at its gradient. Slow: for a step done again.

        with Anomaly(module) as anomaly:
            module(batch).backward()
        anomaly.first  # "output of encode.head", or None

    Args:
        module: with everything in it.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.first: str | None = None
        self._hooks: list[Any] = []

    def __enter__(self) -> Anomaly:
        self.weights()
        self._hooks.append(self.module.register_forward_pre_hook(self._inputs))
        for name, part in self.module.named_modules():
            self._hooks.append(part.register_forward_hook(self._outputs(name or "the loss")))
        return self

    def __exit__(self, *args: Any) -> None:
        for hook in self._hooks:
            hook.remove()

    def weights(self) -> None:
        """Looks at the weights as they are now."""
        for name, parameter in self.module.named_parameters():
            self._see(f"weights {name}", parameter)

    def _inputs(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        inputs, *_ = args
        for place, value in enumerate(inputs):
            self._see(f"input {place}", value)

    def _outputs(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for value in output if isinstance(output, tuple | list) else (output,):
                self._see(f"output of {name}", value)
                if isinstance(value, Tensor) and value.requires_grad:
                    value.register_hook(lambda gradient: self._see(f"gradient of the output of {name}", gradient))

        return hook

    def _see(self, name: str, value: Any) -> None:
        if self.first is None and isinstance(value, Tensor) and value.is_floating_point():
            with torch.no_grad():
                if not value.isfinite().all():
                    self.first = name
