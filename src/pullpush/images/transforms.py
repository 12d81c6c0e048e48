"""Transforms of single images, for data that do not fit into the cache. For cached data see `augment.py`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import center_crop, resize

from pullpush.images import resize_and_center
from pullpush.images.preprocessing import normalise

Mean = Sequence[float]


def train_transform(
    size: int,
    mean: Mean = (0.5, 0.5, 0.5),
    std: Mean = (0.5, 0.5, 0.5),
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
    hangs on (seed, step, row) only.
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


def eval_transform(size: int, mean: Mean = (0.5, 0.5, 0.5), std: Mean = (0.5, 0.5, 0.5)) -> EvalTransform:
    """A PIL image or uint8 tensor to normalised float32 [3, size, size]: the pixels that the model sees in use
    (`Preprocessing`)."""
    return EvalTransform(size, tuple(mean), tuple(std))


class EvalTransform:
    """What `eval_transform` makes; plain data, so worker processes may have it."""

    def __init__(self, size: int, mean: Mean, std: Mean) -> None:
        self.square, self.mean, self.std = Square(size), mean, std

    def __call__(self, image: Image.Image | torch.Tensor) -> torch.Tensor:
        return normalise(self.square(image)[None], self.mean, self.std)[0]


class Square:
    """A PIL RGB image to the uint8 square [3, side, side]: the pixels that the model sees in use (`resize_and_center`).

    A tensor, which comes from the cache, is resized and its middle cut out. Plain data, so worker processes may have
    it.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Image.Image | torch.Tensor) -> torch.Tensor:
        if isinstance(image, Image.Image):
            return torch.from_numpy(resize_and_center(image, self.side).copy()).permute(2, 0, 1).contiguous()
        if image.shape[-2:] == (self.side, self.side):
            return image
        return center_crop(resize(image, [self.side], antialias=True), [self.side, self.side])


def cache_transform(side: int) -> Square:
    """What is kept in memory of an image."""
    return Square(side)
