"""Parameter groups for the optimiser: what decays, and which part learns at which rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def parameter_groups(
    backbone: nn.Module, head: nn.Module, lr: float, *, backbone_scale: float = 1.0, weight_decay: float = 0.01
) -> list[dict[str, Any]]:
    """Groups for a `torch.optim` optimiser: the head learns at `lr`, the backbone at `lr * backbone_scale`.

    Biases and norm parameters (all tensors of at most one dimension) do not decay. Frozen parameters and empty groups
    are left out. Each group holds `name`, `params`, `lr` and `weight_decay`.
    """
    return [
        *_groups("backbone", backbone, lr * backbone_scale, weight_decay),
        *_groups("head", head, lr, weight_decay),
    ]


def _groups(name: str, module: nn.Module, lr: float, weight_decay: float) -> Iterator[dict[str, Any]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    decayed, plain = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    if decayed:
        yield {"name": f"{name}/weights", "params": decayed, "lr": lr, "weight_decay": weight_decay}
    if plain:
        yield {"name": f"{name}/biases_and_norms", "params": plain, "lr": lr, "weight_decay": 0.0}
