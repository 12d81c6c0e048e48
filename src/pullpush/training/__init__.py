"""Training: configuration, the loop, checkpoints, the run folder."""

from typing import TYPE_CHECKING, Any

from pullpush.extras import need

need("train")

from pullpush.runs.config import Config
from pullpush.training.signals import Stopped

if TYPE_CHECKING:
    from pullpush.training.loop import train as train

__all__ = ["Config", "Stopped", "train"]


def __getattr__(name: str) -> Any:
    """The loop when it is used: options and help need no torch."""
    if name != "train":
        raise AttributeError(f"module 'pullpush.training' has no attribute {name!r}")
    from pullpush.training.loop import train

    return train
