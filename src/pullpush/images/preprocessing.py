"""What an image encoder expects of its input, and the one way there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pullpush.images.decode import resize_and_center

__all__ = ["Preprocessing", "normalise"]


@dataclass(frozen=True)
class Preprocessing:
    """Side length in pixels, and mean and standard deviation per channel (RGB, on a 0..1 scale)."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images to float32 `[n, 3, size, size]`: the central square resized, then (pixel / 255 - mean) / std."""
        if not images:
            return torch.empty(0, 3, self.size, self.size)
        return self.normalise(np.stack([resize_and_center(image, self.size) for image in images]))

    def normalise(self, pixels: np.ndarray) -> Tensor:
        """uint8 `[n, s, s, 3]` to float32 `[n, 3, s, s]`, channels last in memory."""
        return normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), self.mean, self.std)


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(pixel / 255 - mean) / std of a uint8 batch `[n, 3, h, w]`, float32."""
    shift, scale = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) * 255 for v in (mean, std))
    return pixels.to(torch.float32, copy=True).sub_(shift).div_(scale)
