"""What the loop needs of that which it trains."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pullpush.data.items import Items

__all__ = ["Trainable"]


class Trainable(Protocol):
    """A task as the loop sees it; `task.Task` is the one for towers.

    Attributes:
        items: with their splits.
        step: the module whose parameters learn; `arguments` gives what it takes to the loss.
        notes: what a person should know before the first step.
    """

    items: Items
    step: nn.Module
    notes: list[str]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimiser; each group holds its own highest learning rate as `lr` and `initial_lr`."""

    def batches(self, done: int) -> Iterator[Any]:
        """Batches for the steps after `done`, the same ones whether the run was resumed there or not."""

    def prepare(self, batch: Any, device: torch.device) -> tuple[Any, ...]:
        """What `step` takes."""

    def gradients(self, arguments: tuple[Any, ...], chunk: int, backward: Any) -> Tensor:
        """The loss of `step` and its gradients, `chunk` inputs at a time."""

    def logged(self, batch: Any) -> dict[str, float]:
        """What is logged of a batch beside its loss."""
