"""Why two images match: their cosine as a sum over places of either image."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pullpush.encoders.image import ImageEncoder
from pullpush.maths.similarity import normalize

__all__ = ["Match", "explain"]

STEPS = 16  # of the path of an approximation
CELLS = 8  # at least so many cells a side of a map of pixels
CLOSE = 1e-3


@dataclass(frozen=True)
class Match:
    """Why two images are as similar as they are.

    Attributes:
        score: their cosine.
        map_a: float64 [h, w], what each place of the first image adds to the cosine: the sum over places is the score.
            Places are cells of the square that the model sees, from the top left.
        map_b: the same of the second.
        exact: whether the cosine is such a sum by itself; otherwise the maps are an approximation.
        method: what was done, in words.
    """

    score: float
    map_a: NDArray[np.float64]
    map_b: NDArray[np.float64]
    exact: bool
    method: str


def explain(encoder: ImageEncoder, a: Tensor, b: Tensor, pixels: bool = False) -> Match:
    r"""The cosine of two images as a sum over the places of either.

    Where the features are the mean of a map over its $P$ places, $\frac{1}{P} \sum_p F_p$, and the head is linear (or
    none), $f = \frac{1}{P} \sum_p (W F_p + b)$, and the cosine is

    $$s(a, b) = \sum_p \frac{1}{P} \frac{(W F^a_p + b) \cdot f_b}{\lVert f_a \rVert \lVert f_b \rVert},$$

    exactly: a value a place of image a, and likewise of b; each has its equal part of the bias. A value can be
    negative: that place makes the two less alike.

    Otherwise (the head `mlp`, another pooling) integrated gradients of $f_a \cdot f_b$, with both lengths as they are,
    along the straight path from an empty map to that of the image, in 16 steps; what is left to the score (the value
    of the empty map, and the error of so few steps) is in equal parts in all places. Of backbones that read a class
    token, and with `pixels`, the path is that of the pixels, from an image of the mean colour.

    Args:
        encoder: in evaluation mode.
        a, b: [1, 3, size, size], as of `encoder.prepare`.
        pixels: take the pixels in any case: finer, and an approximation.

    Source: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016; Stylianou et al.,
    Visualizing Deep Similarity Networks, WACV 2019. Sundararajan et al., Axiomatic Attribution for Deep Networks,
    ICML 2017.
    """
    with torch.no_grad():
        first, second = (encoder.head(encoder.pooled(encoder.features(x))).double()[0] for x in (a, b))
        score = float(normalize(first) @ normalize(second))
    lengths = (first.norm() * second.norm()).clamp_min(1e-30)
    sides = [_parts(encoder, x, to / lengths, score, pixels) for x, to in ((a, second), (b, first))]
    maps, methods = zip(*sides, strict=True)
    first_map, second_map = (each.cpu().numpy() for each in maps)
    return Match(score, first_map, second_map, methods[0] == EXACT, methods[0])


EXACT = "the parts of each place, whose sum is the cosine"
ON_MAP = "approximation: integrated gradients on the last map of the backbone"
ON_PIXELS = "approximation: integrated gradients on the pixels"


def _parts(encoder: ImageEncoder, x: Tensor, direction: Tensor, score: float, pixels: bool) -> tuple[Tensor, str]:
    """What each place of one image adds to the score, and how that was found."""
    backbone, head = encoder.backbone, encoder.head
    forward_features: Callable[[Tensor], Tensor] = backbone.forward_features  # type: ignore[assignment]
    x = x.contiguous(memory_format=torch.channels_last)
    if not pixels and encoder.reads_places:
        with torch.no_grad():
            last = forward_features(x)
            features = encoder.pooled(encoder.features(x))
        places = _places(backbone, last)
        if places is not None:
            if isinstance(head, nn.Linear | nn.Identity) and _close(places.mean((0, 1)), features[0]):
                return _outputs(head, places) @ direction / places[..., 0].numel(), EXACT
            gradients = _along(last, lambda part: head(encoder.from_last(part)), direction)
            grid = _places(backbone, gradients)
            assert grid is not None
            return _filled(grid.sum(-1), score), ON_MAP
    parts = _along(x, lambda part: head(encoder.pooled(encoder.features(part))), direction).sum(1)[0]
    side = next((n for n in (16, 8, 4, 2) if len(parts) % n == 0 and len(parts) // n >= CELLS), 1)
    cells = parts.unflatten(1, (-1, side)).unflatten(0, (-1, side)).sum((1, 3))
    return _filled(cells, score), ON_PIXELS


def _places(backbone: nn.Module, last: Tensor) -> Tensor | None:
    """The last output of a backbone as [h, w, width]: of maps, channels first or last, and of tokens in a square."""
    width = int(backbone.num_features)  # type: ignore[arg-type]
    if last.ndim == 4:
        return last[0].permute(1, 2, 0) if last.shape[1] == width else last[0] if last.shape[-1] == width else None
    tokens = last[0, int(getattr(backbone, "num_prefix_tokens", 0)) :] if last.ndim == 3 else last[:0]
    side = int(len(tokens) ** 0.5)
    return tokens.unflatten(0, (side, side)) if side and side * side == len(tokens) else None


def _close(mean: Tensor, features: Tensor) -> bool:
    """Whether the features are that mean, up to rounding."""
    if mean.shape != features.shape:
        return False
    return bool((mean - features).abs().max() <= CLOSE * features.abs().max().clamp_min(1e-12))


@torch.no_grad()
def _outputs(head: nn.Module, places: Tensor) -> Tensor:
    """The head's output at each place, in float64."""
    outputs: Tensor = copy.deepcopy(head).double()(places.double())
    return outputs


def _along(end: Tensor, function: Callable[[Tensor], Tensor], direction: Tensor) -> Tensor:
    """Integrated gradients of `function(part) @ direction` from nothing to `end`, of its shape; float64."""
    total = torch.zeros_like(end, dtype=torch.float64)
    for step in range(STEPS):
        part = (end * ((step + 0.5) / STEPS)).detach().requires_grad_()
        with torch.enable_grad():
            value = (function(part).double() @ direction).sum()
        total += torch.autograd.grad(value, part)[0]
    return total / STEPS * end


def _filled(parts: Tensor, score: float) -> Tensor:
    return parts + (score - parts.sum()) / parts.numel()
