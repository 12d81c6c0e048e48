"""Test views: an image is embedded at several scales, mirrored, cropped, and the mean is its embedding.

Views cost time and no training. A gallery is embedded once and may have more of them than a query, for whose answer
somebody waits.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop

from pullpush.encoders.image import ImageEncoder
from pullpush.errors import UserError
from pullpush.images.preprocessing import normalise
from pullpush.maths.similarity import normalize

__all__ = ["LARGEST", "View", "Views", "embed_each", "mean_of"]

LARGEST = 4.0
"""The largest scale of a view."""
SPELLED = re.compile(r"(?P<scale>\d+(\.\d+)?)( crop (?P<crop>\d+(\.\d+)?))?(?P<flip> flip)?")


@dataclass(frozen=True, order=True)
class View:
    """One way to look at an image: `1`, `1.25`, `1.5 flip`, `1 crop 0.9 flip`.

    Attributes:
        scale: side of the input as a multiple of the encoder's.
        crop: side of the central square that is seen, as a share of the image's shorter side.
        flip: mirrored, left for right.

    Raises:
        UserError: a scale or crop out of its bounds.
    """

    scale: float = 1.0
    crop: float = 1.0
    flip: bool = False

    def __post_init__(self) -> None:
        if not (0.25 <= self.scale <= LARGEST and 0.1 <= self.crop <= 1):
            raise UserError(f"a view has a scale from 0.25 to {LARGEST:g} and a crop from 0.1 to 1, not {str(self)!r}")

    @classmethod
    def of(cls, spelled: str | float) -> "View":
        """The view that is spelled so.

        Raises:
            UserError: it is spelled in no way that is known.
        """
        match = SPELLED.fullmatch(str(spelled).strip())
        if match is None:
            raise UserError(f"{spelled!r} is no view: give a scale such as 1.25, then crop 0.9, then flip, as needed")
        return cls(float(match["scale"]), float(match["crop"] or 1), bool(match["flip"]))

    def __str__(self) -> str:
        return f"{self.scale:g}" + (f" crop {self.crop:g}" if self.crop < 1 else "") + " flip" * self.flip

    @property
    def cost(self) -> float:
        """Pixels that the encoder sees, as a multiple of those of the plain view."""
        return self.scale**2

    def side(self, size: int) -> int:
        """Side of the input in pixels, for an encoder of this size."""
        return round(size * self.scale)


PLAIN = (View(),)


@dataclass(frozen=True)
class Views:
    """The views of queries and those of what they are compared with.

    Attributes:
        query: at least one.
        gallery: at least one.

    Raises:
        UserError: none, or one twice.
    """

    query: tuple[View, ...] = PLAIN
    gallery: tuple[View, ...] = PLAIN

    def __post_init__(self) -> None:
        for name, views in (("query", self.query), ("gallery", self.gallery)):
            if not views or len(set(views)) < len(views):
                raise UserError(
                    f"views of a {name} must be one or more, each once, not {[str(each) for each in views]}"
                )

    @classmethod
    def of(cls, values: Any) -> "Views":
        """Made of what `values` gave.

        Raises:
            UserError: something is missing, or not what it should be.
        """
        if not isinstance(values, Mapping) or not all(isinstance(values.get(n), list) for n in ("query", "gallery")):
            raise UserError("views must be a mapping with the lists query and gallery")
        return cls(*(tuple(map(View.of, values[name])) for name in ("query", "gallery")))

    def values(self) -> dict[str, list[str]]:
        """As JSON has it; `Views.of` reads it."""
        return {"query": [str(each) for each in self.query], "gallery": [str(each) for each in self.gallery]}

    @property
    def all(self) -> tuple[View, ...]:
        """Each once."""
        return tuple(dict.fromkeys((*self.query, *self.gallery)))

    @property
    def plain(self) -> bool:
        """Whether an image is embedded once, as it is."""
        return self.query == self.gallery == PLAIN

    def side(self, size: int) -> int:
        """Side of the square from which all of them are made, for an encoder of this size."""
        return max(view.side(size) for view in self.all)

    def of_role(self, role: str) -> tuple[View, ...]:
        """Those of a `query`, or of the `gallery`."""
        return self.query if role == "query" else self.gallery

    def seen(self, each: Mapping[View, Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings of the same images as queries and as gallery, of those of each view."""
        return mean_of(each, self.query), mean_of(each, self.gallery)

    def cost(self, role: str) -> float:
        """Time to embed a `query`, or an item of the `gallery`, as a multiple of the plain view's."""
        return sum(view.cost for view in self.of_role(role))


def embed_each(encoder: ImageEncoder, squares: Tensor, views: Sequence[View]) -> dict[View, Tensor]:
    """The embedding of each view, float32 `[n, dim]` of length 1.

    Args:
        encoder: in evaluation mode.
        squares: uint8 `[n, 3, side, side]`, on its device; the views are resized from these.
        views: which.
    """
    return {view: normalize(encoder(_seen(encoder, squares, view)).float()) for view in views}


def mean_of(each: Mapping[View, Tensor], views: Sequence[View]) -> Tensor:
    r"""The embedding of an image that is seen in several views $V$, `[n, dim]` of length 1.

    $\sum_{v \in V} x_v \,/\, \lVert \sum_{v \in V} x_v \rVert$ of the embeddings $x_v$ of length 1.

    Args:
        each: as of `embed_each`.
        views: one or more of them.
    """
    if len(views) == 1:
        return each[views[0]]
    return normalize(torch.stack([each[view] for view in views]).sum(0))


def _seen(encoder: ImageEncoder, squares: Tensor, view: View) -> Tensor:
    own, side = encoder.preprocessing, round(squares.shape[-1] * view.crop)
    pixels = squares if side == squares.shape[-1] else center_crop(squares, [side, side])
    images = normalise(pixels, own.mean, own.std, view.side(own.size))
    return images.flip(-1) if view.flip else images
