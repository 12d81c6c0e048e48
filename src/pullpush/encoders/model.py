"""A trained model in use: images and strings in, embeddings out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.text import TextEncoder
from pullpush.errors import UserError
from pullpush.images import open_rgb, to_rgb
from pullpush.images.preprocessing import Preprocessing
from pullpush.maths.similarity import normalize
from pullpush.progress import counted, showing

Picture = str | os.PathLike[str] | Image.Image | np.ndarray


class Model:
    """An image encoder and, where it was trained with descriptions, a text encoder, ready for use.

    - `image`, `text`: the encoders, in evaluation mode (`text` may be None).
    - `fingerprint`: sha256 of the weights and of everything that decides how they are used; two models with the same
      fingerprint give the same embeddings.
    - `extra`: whatever was saved with the bundle.
    """

    def __init__(
        self, image: ImageEncoder, text: TextEncoder | None, fingerprint: str, extra: dict[str, Any] | None = None
    ) -> None:
        self.image, self.text = image.eval(), text.eval() if text is not None else None
        self.fingerprint, self.extra = fingerprint, extra or {}

    @property
    def dim(self) -> int:
        return self.image.dim

    def __repr__(self) -> str:
        text = None if self.text is None else self.text.name
        return (
            f"Model(\n  image={self.image.name!r}, size={self.preprocessing.size},\n  text={text!r},\n"
            f"  dim={self.dim}, fingerprint='{self.fingerprint[:12]}...',\n)"
        )

    @property
    def preprocessing(self) -> Preprocessing:
        return self.image.preprocessing

    def embed(self, images: Picture | Iterable[Picture], batch_size: int = 64, progress: bool = False) -> np.ndarray:
        """float32 `[n, dim]`, each row of length 1, in the order of `images`.

        `images`: paths, PIL images or uint8 arrays (`[h, w]`, `[h, w, 3]` or `[h, w, 4]`), as one or as any iterable of
        them; nothing gives `[0, dim]`. They are decoded as in training (`images.to_rgb`).

        Raises: `UserError` naming the first image that cannot be read.
        """
        if _is_one(images):
            images = [images]
        parts = [np.empty((0, self.dim), np.float32)]
        device = next(self.image.parameters()).device
        for batch in _batches(images, batch_size, "embedding images" if progress else ""):
            pixels = self.preprocessing([_rgb(picture, f"number {position}") for position, picture in batch])
            with torch.inference_mode():
                parts.append(_unit(self.image(pixels.to(device))))
        return np.concatenate(parts)

    def embed_text(self, texts: str | Iterable[str], batch_size: int = 64, progress: bool = False) -> np.ndarray:
        """float32 `[n, dim]`, each row of length 1, in the space of the images.

        Raises: `UserError` when the model was trained without descriptions.
        """
        if self.text is None:
            raise UserError(
                "This model has no text encoder, it was trained on images alone. "
                "Train with --task image-text to search by description."
            )
        if isinstance(texts, str):
            texts = [texts]
        parts = [np.empty((0, self.dim), np.float32)]
        for batch in _batches(texts, batch_size, "embedding texts" if progress else ""):
            with torch.inference_mode():
                parts.append(_unit(self.text([text for _, text in batch])))
        return np.concatenate(parts)


def _is_one(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (3, 4))
    return isinstance(images, str | os.PathLike | Image.Image)


def _batches(items: Iterable[Any], size: int, progress: str) -> Iterator[Sequence[tuple[int, Any]]]:
    """Lists of up to `size` (position, item)."""
    if size < 1:
        raise UserError(f"The batch size must be at least 1, it is {size}.")
    numbered, total = enumerate(items), len(items) if hasattr(items, "__len__") else None
    batches = iter(lambda: list(islice(numbered, size)), [])
    if not progress:
        yield from batches
        return
    with showing():
        yield from counted(batches, progress, total, "items")


def _rgb(picture: Any, place: str) -> Image.Image:
    if isinstance(picture, str | os.PathLike):
        return open_rgb(picture)
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise UserError(
                f"Image {place} is an array of {picture.dtype} {list(picture.shape)}. "
                "Give uint8 [h, w, 3], values 0 to 255."
            )
    elif not isinstance(picture, Image.Image):
        raise UserError(f"Image {place} is a {type(picture).__name__}. Give paths, PIL images or uint8 arrays.")
    try:
        return to_rgb(Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture)
    except Exception as error:  # a lazily opened file is decoded here; see images.open_rgb
        name = getattr(picture, "filename", "") or place
        raise UserError(f"Cannot read the image {name}: {error}. Replace or remove it.") from error


def _unit(embeddings: torch.Tensor) -> np.ndarray:
    """Of length 1 also where the encoder itself was built with `normalize=False`."""
    return normalize(embeddings).cpu().numpy()
