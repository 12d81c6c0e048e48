"""Training: configuration, the loop, checkpoints, the run folder."""

from pullpush.training.config import Config
from pullpush.training.loop import train
from pullpush.training.signals import Stopped

__all__ = ["Config", "Stopped", "train"]
