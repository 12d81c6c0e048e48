"""The first tensor that was not finite, by name."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Anomaly"]


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

    def __enter__(self) -> "Anomaly":
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
