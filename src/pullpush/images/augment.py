"""Augmentation of a whole batch at once, one warp and one colour matrix an image.

What is random happens here, on the batch, from an explicit generator, wherever its images were decoded. So a resumed
run draws what the uninterrupted one would have drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pullpush.errors import UserError
from pullpush.transfer import moved

__all__ = ["Augmentation", "step_generator"]

GREY = (0.299, 0.587, 0.114)


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """The generator of one step: the same for the same (seed, step, rank), unlike that of any other."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % (1 << 63)
    return torch.Generator().manual_seed(mixed)


class _Draw:
    """Random numbers, one an image, from one generator; drawn on the CPU, so they do not depend on the device."""

    def __init__(self, n: int, generator: torch.Generator, device: torch.device) -> None:
        self.n, self.generator, self.device = n, generator, device

    def uniform(self, low: float, high: float) -> torch.Tensor:
        return self._there(torch.rand(self.n, generator=self.generator) * (high - low) + low)

    def chance(self, probability: float) -> torch.Tensor:
        return self._there((torch.rand(self.n, generator=self.generator) < probability).float())

    def _there(self, drawn: torch.Tensor) -> torch.Tensor:
        there: torch.Tensor = moved(drawn, self.device)
        return there


@dataclass(frozen=True)
class Augmentation:
    """Random views of a batch: `augment(images, generator)`, uint8 [n, 3, h, w] to normalised float32 [n, 3, size,
    size].

    The warp is a crop of a random share of the area (as in Inception training, Szegedy et al. 2015), a flip and a
    rotation, in one bilinear sampling; edges are continued. The colour change is one 3 x 3 matrix and offset an image,
    in which brightness, contrast (about the image's mean grey), saturation, grey, and the normalisation are multiplied
    together; values are clamped to [0, 1] before they are normalised.

    Args:
        size: Side of the result, in pixels.
        mean, std: Of the encoder, for values in [0, 1].
        scale: Share of the area that a crop keeps, from and to; (1, 1) keeps all.
        ratio: Width over height of the crop, from and to.
        flip: Probability of a left-right flip.
        rotate: Largest angle, in degrees.
        brightness, contrast, saturation: Factors are drawn from [1 - x, 1 + x].
        grey: Probability of a grey image.
        erase: Probability of a grey rectangle (2 to 20% of the area; Zhong et al. 2017, Random Erasing).
    """

    size: int
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.5, 0.5, 0.5)
    scale: tuple[float, float] = (0.6, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rotate: float = 0.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    grey: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UserError(f"scale={self.scale}: the shares of the area must rise and lie in (0, 1]")
        for name in ("flip", "grey", "erase", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)} must be from 0 to 1")

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        draw = _Draw(len(images), generator, images.device)
        pixels = self._warp(images.float(), draw)
        pixels = self._colour(pixels, draw)
        if self.erase:
            self._erase(pixels, draw)
        return pixels

    def _warp(self, pixels: torch.Tensor, draw: _Draw) -> torch.Tensor:
        """Each output pixel at (x, y) in [-1, 1]^2 reads the input at A (x, y) + b."""
        area = draw.uniform(*self.scale)
        aspect = draw.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])).exp()
        width = (area * aspect).sqrt().clamp(max=1)
        height = (area / aspect).sqrt().clamp(max=1)
        x, y = draw.uniform(-1, 1) * (1 - width), draw.uniform(-1, 1) * (1 - height)
        mirror = 1 - 2 * draw.chance(self.flip)
        angle = draw.uniform(-1, 1) * math.radians(self.rotate)
        cos, sin = angle.cos(), angle.sin()
        # the same as F.affine_grid, without its batch of small matrix products
        line = (torch.arange(self.size, device=pixels.device) * 2 + 1) / self.size - 1
        grid = torch.empty(len(pixels), self.size, self.size, 2, device=pixels.device)
        for axis, (across, down, shift) in enumerate(
            ((width * cos * mirror, -height * sin, x), (width * sin * mirror, height * cos, y))
        ):
            rows = down.view(-1, 1, 1) * line.view(1, -1, 1) + shift.view(-1, 1, 1)
            torch.add(across.view(-1, 1, 1) * line.view(1, 1, -1), rows, out=grid[..., axis])
        return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _colour(self, pixels: torch.Tensor, draw: _Draw) -> torch.Tensor:
        n, _, height, width = pixels.shape
        grey = moved(torch.tensor(GREY), pixels.device)
        saturation = draw.uniform(1 - self.saturation, 1 + self.saturation) * (1 - draw.chance(self.grey))
        contrast = draw.uniform(1 - self.contrast, 1 + self.contrast)
        brightness = draw.uniform(1 - self.brightness, 1 + self.brightness)
        middle = pixels.mean((2, 3)) @ grey
        same = torch.eye(3, device=pixels.device)
        saturate = saturation.view(n, 1, 1) * same + (1 - saturation).view(n, 1, 1) * grey.expand(3, 3)
        mean, std = (moved(torch.tensor(v), pixels.device).view(3, 1) * 255 for v in (self.mean, self.std))
        matrix = (brightness * contrast).view(n, 1, 1) * saturate / std
        offset = ((brightness * (1 - contrast) * middle).view(n, 1, 1) - mean) / std
        flat = torch.baddbmm(offset, matrix, pixels.view(n, 3, -1))
        return flat.clamp_(-mean / std, (255 - mean) / std).view(n, 3, height, width)

    def _erase(self, pixels: torch.Tensor, draw: _Draw) -> None:
        chosen = draw.chance(self.erase)
        side = draw.uniform(0.02, 0.2).sqrt()
        stretch = draw.uniform(math.log(0.5), math.log(2)).exp().sqrt()
        places = torch.linspace(0, 1, self.size, device=pixels.device)
        x, y = draw.uniform(0, 1), draw.uniform(0, 1)
        across = (places - x.view(-1, 1)).abs() < (side * stretch / 2).view(-1, 1)
        down = (places - y.view(-1, 1)).abs() < (side / stretch / 2).view(-1, 1)
        hidden = (down.unsqueeze(2) & across.unsqueeze(1)).unsqueeze(1) & (chosen > 0).view(-1, 1, 1, 1)
        pixels.masked_fill_(hidden, 0.0)
