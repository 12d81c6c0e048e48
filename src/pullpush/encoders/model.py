"""A trained model in use: images and strings in, embeddings out."""

import copy
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import nullcontext
from itertools import chain, islice
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pullpush.bounds import Bound, check
from pullpush.encoders.compression import Compression, Dtype
from pullpush.encoders.decision import PRIOR, Decision
from pullpush.encoders.encoder import Encoder
from pullpush.encoders.explain import Match, explain
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.rerank import Rerank
from pullpush.encoders.text import TextEncoder
from pullpush.encoders.views import Views, embed_each, mean_of
from pullpush.errors import UserError
from pullpush.images import Fit
from pullpush.images.preprocessing import Preprocessing
from pullpush.maths.similarity import normalize
from pullpush.progress import counted, showing

__all__ = ["Model", "Role"]

Role = Literal["query", "gallery"]
Given = str | os.PathLike[str] | Image.Image | NDArray[Any]
Embeddings = NDArray[Any]
"""float32 unless another dtype is asked for."""


class Model:
    """Encoders of one space, ready for use: that of images and, where it was trained with texts, that of texts.

    Attributes:
        encoders: by their kind, in evaluation mode.
        fingerprint: sha256 of the weights and of everything that decides how they are used; two models with the same
            fingerprint give the same embeddings.
        extra: whatever was saved with the bundle.
        decision: how cosines of its images are read; None where it was not fitted.
        compression: how its embeddings are made smaller; without anything fitted in bundles of earlier versions, where
            fewer dimensions are the first ones and bits are signs.
        views: in which images are seen; their mean is the embedding.
        rerank: how hits are re-ranked where somebody asks for `auto`, as its validation classes have chosen; nothing
            where they have not.
        source: what `load` made it of, as it can be loaded again from anywhere; empty where it was put together.
        weights: the files of weights that were given with it.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        fingerprint: str,
        extra: dict[str, Any] | None = None,
        decision: Decision | None = None,
        compression: Compression | None = None,
        views: Views | None = None,
        rerank: Rerank | None = None,
    ) -> None:
        self.encoders = {encoder.kind: encoder.eval() for encoder in encoders}
        self.fingerprint, self.extra, self.decision = fingerprint, extra or {}, decision
        self.compression, self.views = compression or Compression(), views or Views()
        self.rerank = rerank or Rerank()
        self.source = ""
        self.weights: tuple[str, ...] = ()
        self._dim: int | None = None

    def __repr__(self) -> str:
        titles = {"image": "None", "text": "None"} | {kind: each.title() for kind, each in self.encoders.items()}
        shown = "".join(f"  {kind}={title},\n" for kind, title in titles.items())
        if self.source:
            loaded = [each.loaded for each in self.encoders.values() if each.loaded and each.loaded.source != "bundle"]
            shown += "".join(f"  weights={str(each)!r},\n" for each in loaded)
        return f"Model(\n{shown}  dim={self.dim}, fingerprint='{self.fingerprint[:12]}...',\n)"

    @property
    def dim(self) -> int:
        """Dimensions of the embeddings, where nobody asks for fewer."""
        return self._dim or self._whole

    @property
    def _whole(self) -> int:
        """Dimensions that the encoders give, of which `dim` are left."""
        return next(iter(self.encoders.values())).dim

    def reduced(self, dim: int | None) -> "Model":
        """The same model with embeddings of `dim` dimensions, which are those of `embed(..., dim=dim)`, and with a
        fingerprint of its own. Its cosines are others, so it has no decision.

        Args:
            dim: fewer than this model has; None, or as many, for the model itself.

        Raises:
            UserError: the model has fewer.
        """
        if dim is None or dim == self.dim:
            return self
        dim = check("dim", dim, Annotated[int, Bound(1, self.dim)])
        smaller = copy.copy(self)
        smaller._dim = dim
        whole = self.fingerprint.partition("-")[0]
        smaller.fingerprint, smaller.decision = f"{whole}-{dim}", None
        return smaller

    @property
    def image(self) -> ImageEncoder:
        """The encoder of images."""
        encoder = self._encoder("image")
        assert isinstance(encoder, ImageEncoder)
        return encoder

    @property
    def text(self) -> TextEncoder | None:
        """The encoder of texts, where there is one."""
        encoder = self.encoders.get("text")
        return encoder if isinstance(encoder, TextEncoder) else None

    @property
    def temperature(self) -> float | None:
        """By which the checkpoint of a joint model (CLIP, SigLIP) divides the cosine of an image and a text; None of
        any other. Training starts from it and does not change it here."""
        image = self.encoders.get("image")
        found: float | None = None if image is None else getattr(image.backbone, "temperature", None)
        return found

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the images."""
        return self.image.preprocessing

    @property
    def side(self) -> int:
        """Side in pixels of the squares that it looks at: an image may come as a square of this side (`fit`)."""
        return self.views.side(self.preprocessing.size)

    @property
    def fit(self) -> Fit:
        """How an image becomes such a square."""
        return self.preprocessing.fit

    def embed(
        self,
        images: Given | Iterable[Given],
        batch_size: int = 64,
        progress: bool = False,
        *,
        role: Role = "gallery",
        dim: int | None = None,
        dtype: Dtype = "float32",
    ) -> Embeddings:
        """Embeddings of images, decoded as in training (`images.to_rgb`).

        Args:
            images: paths, PIL images or uint8 arrays (`[h, w]`, `[h, w, 3]` or `[h, w, 4]`), as one or as any iterable
                of them.
            batch_size: how many at once.
            progress: whether to show how far it is.
            dim: dimensions of the embeddings, at most `Model.dim`; None for all. Fewer are the first ones of a model
                that was trained for them (`matryoshka`) where that found as much on its validation classes, else
                principal components of its training embeddings.
            dtype: `float32`, `float16`, `int8` or `binary`, see `encoders.compression`; all are compared by cosine,
                where `decode(embeddings, dim)` gives what stands for them.
            role: what the images are to each other. Of a model with test views, those of the gallery may be seen in
                more of them than a query, for whose answer somebody waits; else both are the same.

        Returns:
            float32 `[n, dim]`, each row of length 1, in the order of `images`; of the dtype `binary` uint8
            `[n, ceil(dim / 8)]`, else of that type.

        Raises:
            UserError: an image cannot be read; the first of them is named. `dim` or `dtype` are out of their bounds.
        """
        return self.embed_as("image", _several(images), batch_size, progress, role=role, dim=dim, dtype=dtype)

    def embed_both(
        self, images: Iterable[Given], batch_size: int = 64, progress: bool = False
    ) -> tuple[Embeddings, Embeddings]:
        """Embeddings of images as queries, and as the gallery that they are asked of; Args and Raises as of `embed`."""
        parts: list[Sequence[Embeddings]] = [[np.empty((0, self._whole), np.float32)] * 2]
        for first, batch in _batches(images, batch_size, "embedding images" if progress else ""):
            parts.append(self._embedded(self.image, batch, first, "query", "gallery"))
        queries, gallery = (
            self.compression.reduce(np.concatenate(each), self._dim) for each in zip(*parts, strict=True)
        )
        return queries, gallery

    def embed_text(
        self,
        texts: str | Iterable[str],
        batch_size: int = 64,
        progress: bool = False,
        *,
        dim: int | None = None,
        dtype: Dtype = "float32",
    ) -> Embeddings:
        """Embeddings of texts, in the space of the images; Args and Returns as of `embed`.

        Raises:
            UserError: the model was trained without texts.
        """
        several = [texts] if isinstance(texts, str) else texts
        return self.embed_as("text", several, batch_size, progress, dim=dim, dtype=dtype)

    def embed_as(
        self,
        kind: str,
        inputs: Iterable[Any],
        batch_size: int = 64,
        progress: bool = False,
        *,
        role: Role = "gallery",
        dim: int | None = None,
        dtype: Dtype = "float32",
    ) -> Embeddings:
        """Embeddings by the encoder of a kind; Args and Returns as of `embed`.

        Raises:
            UserError: the model has none of that kind, or what is given can't be read.
        """
        encoder, dim = self._encoder(kind), self._dim if dim is None else dim
        parts = [self.compression(np.empty((0, self._whole), np.float32), dim, dtype)]
        for first, batch in _batches(inputs, batch_size, f"embedding {kind}s" if progress else ""):
            parts.append(self.compression(self._embedded(encoder, batch, first, role)[0], dim, dtype))
        return np.concatenate(parts)

    def preprocess(self, images: Given | Iterable[Given]) -> NDArray[np.float32]:
        """Images as an exported model takes them: squares of the encoder's size, values 0 to 1.

        Args:
            images: as of `embed`.

        Returns:
            float32 `[n, 3, size, size]`.

        Raises:
            UserError: an image cannot be read.
        """
        squares = self.image.squares(list(_several(images)), self.preprocessing.size)
        return np.ascontiguousarray(squares.cpu().numpy(), np.float32) / np.float32(255)

    def same(self, a: Given | Iterable[Given], b: Given | Iterable[Given], prior: float = PRIOR) -> Any:
        """The probability that two images are of one class: `model.same("one.png", "other.png")`.

        Args:
            a: one image, or several, as of `embed`.
            b: as many, or one: the first of `a` is compared with the first of `b`, and so on; one with each of several.
            prior: see `Decision.probability`.

        Returns:
            A float for one and one; else float64 `[n]`.

        Raises:
            UserError: the model has no decision, the numbers of images differ, or an image cannot be read.
        """
        if self.decision is None:
            raise UserError(
                "this model has no decision, so nobody knows which cosine means the same: train with validation "
                "classes (--data.validation), or fit one (pullpush.evaluation.fit_decision) and save it with the model"
            )
        first, second = self.embed(a, role="query").astype(np.float64), self.embed(b).astype(np.float64)
        if len(first) != len(second) and 1 not in (len(first), len(second)):
            raise UserError(f"{len(first)} images are to be compared with {len(second)}; give as many, or one")
        found = self.decision.probability((first * second).sum(axis=1), prior)
        return float(found[0]) if _is_one(a) and _is_one(b) else found

    @torch.inference_mode()
    def _embedded(self, encoder: Encoder, inputs: Sequence[Any], first: int, *roles: Role) -> list[Embeddings]:
        """Embeddings of some inputs in each role."""
        if self.views.plain or not isinstance(encoder, ImageEncoder):
            # of length 1 also where the encoder itself was built with `normalize=False`
            return [normalize(encoder(encoder.prepare(inputs, first))).cpu().numpy()] * len(roles)
        sets = [self.views.of_role(role) for role in roles]
        each = embed_each(encoder, encoder.squares(inputs, self.side, first), list(dict.fromkeys(chain(*sets))))
        return [mean_of(each, views).cpu().numpy() for views in sets]

    def explain(self, a: Given, b: Given, pixels: bool = False) -> Match:
        """Why two images are as similar as they are: heat maps of both, each of which sums to their cosine, as embedded
        once, without test views.

        Args:
            a: one image, as of `embed`.
            b: the other.
            pixels: a finer map, which is always an approximation; see `encoders.explain`.

        Returns:
            `Match(score, map_a, map_b, exact, method)`.

        Raises:
            UserError: the model has no image encoder, or an image cannot be read.
        """
        encoder = self.image
        return explain(encoder, encoder.prepare([a]), encoder.prepare([b], 1), pixels)

    def _encoder(self, kind: str) -> Encoder:
        if kind not in self.encoders:
            cure = "; train with --task image-text to search by text" if kind == "text" else ""
            raise UserError(f"this model has no {kind} encoder, only {', '.join(self.encoders)}{cure}")
        return self.encoders[kind]


def _several(images: Given | Iterable[Given]) -> Iterable[Given]:
    return [images] if _is_one(images) else images  # type: ignore[list-item, return-value]


def _is_one(images: Given | Iterable[Given]) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (3, 4))
    return isinstance(images, str | os.PathLike | Image.Image)


def _batches(inputs: Iterable[Any], size: int, progress: str) -> Iterator[tuple[int, list[Any]]]:
    """Lists of up to `size`, each with the number of its first."""
    if size < 1:
        raise UserError(f"the batch size must be at least 1, it is {size}")
    each, total = iter(inputs), len(inputs) if isinstance(inputs, Sized) else None
    batches = iter(lambda: list(islice(each, size)), [])
    with showing() if progress else nullcontext():
        shown = counted(batches, progress, total, "items") if progress else batches
        yield from ((number * size, batch) for number, batch in enumerate(shown))
