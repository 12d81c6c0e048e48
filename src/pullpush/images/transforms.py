"""Random views of single images, for data that do not fit into the cache. For cached data see `augment.py`."""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

__all__ = ["train_transform"]


def train_transform(
    size: int,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    *,
    scale: tuple[float, float] = (0.6, 1.0),
    flip: float = 0.5,
    rotate: float = 0.0,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
    grey: float = 0.0,
) -> v2.Compose:
    """A PIL image or uint8 tensor to a random view, normalised float32 [3, size, size]. The options are those of
    `Augmentation`.

    torchvision draws from the global generator; `ImageDataset` sets and restores it around each image, so that the view
    depends on (seed, step, row) only.
    """
    parts: list[torch.nn.Module] = [v2.ToImage(), v2.RandomResizedCrop(size, scale=scale, antialias=True)]
    if flip:
        parts.append(v2.RandomHorizontalFlip(flip))
    if rotate:
        parts.append(v2.RandomRotation(rotate, interpolation=v2.InterpolationMode.BILINEAR, fill=255))
    if brightness or contrast or saturation:
        parts.append(v2.ColorJitter(brightness, contrast, saturation))
    if grey:
        parts.append(v2.RandomGrayscale(grey))
    return v2.Compose([*parts, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])
