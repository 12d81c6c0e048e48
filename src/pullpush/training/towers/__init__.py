"""Towers: an encoder a modality, with what it is fed. A further modality is a kind of encoder in `encoders`."""

from pullpush.training.towers.base import CPU, SPLITS, Batch, Tower, start_rows
from pullpush.training.towers.image import MARGIN, ImageTower, image_encoder, usual_size
from pullpush.training.towers.text import TextTower

__all__ = [
    "CPU",
    "MARGIN",
    "SPLITS",
    "TOWERS",
    "Batch",
    "ImageTower",
    "TextTower",
    "Tower",
    "image_encoder",
    "start_rows",
    "usual_size",
]

TOWERS: dict[str, type[Tower]] = {"image": ImageTower, "text": TextTower}
"""Those that feed their encoder in a way of their own."""
