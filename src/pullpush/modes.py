"""Training and evaluation mode of modules."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(encoder: Any) -> Iterator[None]:
    """Within it a module is in evaluation mode; then each module of it has its own mode back. Anything else stays as it
    is."""
    training = []
    if isinstance(encoder, nn.Module):
        training = [module for module in encoder.modules() if module.training]
        encoder.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
