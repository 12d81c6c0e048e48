"""What an image encoder expects of its input, and the one way there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from pullpush.images.decode import Fit, resize_and_center
from pullpush.transfer import moved

__all__ = ["Preprocessing", "normalise", "square", "squares"]


@dataclass(frozen=True)
class Preprocessing:
    """An image as a square, then (pixel / 255 - mean) / std.

    Args:
        size: side length in pixels.
        mean: of each channel (RGB), on a 0..1 scale.
        std: standard deviation of each channel.
        fit: how an image becomes a square: its central square (`crop`), or all of it whatever its aspect (`squash`);
            see `resize_and_center`.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit = "crop"

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images to float32 `[n, 3, size, size]`, channels last in memory."""
        return normalise(squares(images, self.size, self.fit), self.mean, self.std)

    def transform(self, image: Image.Image | Tensor) -> Tensor:
        """One RGB image, or uint8 tensor `[3, h, w]`, to float32 `[3, size, size]`."""
        return normalise(square(image, self.size, self.fit)[None], self.mean, self.std)[0]


def squares(images: Sequence[Image.Image], side: int, fit: Fit = "crop") -> Tensor:
    """RGB images as squares, uint8 `[n, 3, side, side]`, channels last in memory; see `resize_and_center`."""
    pixels = [resize_and_center(image, side, fit) for image in images]
    together = np.stack(pixels) if pixels else np.empty((0, side, side, 3), np.uint8)
    return torch.from_numpy(together).permute(0, 3, 1, 2)


def square(image: Image.Image | Tensor, side: int, fit: Fit = "crop") -> Tensor:
    """An RGB image, or a uint8 tensor `[3, h, w]`, as a square: uint8 `[3, side, side]`; see `resize_and_center`."""
    if isinstance(image, Image.Image):
        return torch.from_numpy(resize_and_center(image, side, fit).copy()).permute(2, 0, 1).contiguous()
    if image.shape[-2:] == (side, side):
        return image
    how, _, resample = fit.partition(" ")
    if how == "crop":
        image = center_crop(image, [min(image.shape[-2:])] * 2)
    resized: Tensor = resize(image, [side, side], InterpolationMode(resample or "bicubic"), antialias=True)
    return resized


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float], size: int | None = None) -> Tensor:
    """(pixel / 255 - mean) / std of a batch `[n, 3, h, w]` with values 0 to 255, float32.

    Args:
        pixels: uint8, or float32 of the same scale.
        mean: of each channel, on a 0..1 scale.
        std: standard deviation of each channel.
        size: the side that images are resized to before; None: as they are.
    """
    if size is not None:
        pixels = resize(pixels, [size, size], antialias=True)
    shift, scale = (moved(torch.tensor(v), pixels.device).view(1, 3, 1, 1) * 255 for v in (mean, std))
    return pixels.to(torch.float32, copy=True).sub_(shift).div_(scale)
