"""Backbones by their names: `LIBRARY:NAME`, or a name alone: of images timm's, of texts that of sentence-transformers.

A library is one file or package in this folder, found by its name. It declares `image`, `text` or both, as `Library`
has them.

Image backbones are modules `[n, 3, size, size] -> [n, width]` with the conventions of timm's models, by which they are
frozen in stages, explained and exported: `forward_features(images)` (maps or tokens) and `forward_head(last)` (pooled)
are the two halves of `forward`; `num_features`, `num_prefix_tokens` (tokens before those of places) and `global_pool`
(`token` or `map` where places are not averaged) say what lies between; `group_matcher(coarse)` names its stages from
the input on; `set_grad_checkpointing(enable)`. One that its name does not rebuild has its `architecture`: plain JSON
values. One that is never trained or saved is `as_it_is`, and needs `forward` alone. One of a joint model has the
`temperature` by which that divides cosines of images and texts, and the `bias` that it adds then, or None; of any other
both are absent or None.

Text backbones have the conventions of a `SentenceTransformer`: `preprocess(texts)` gives tensors by their names, and
the module makes `sentence_embedding` `[n, width]` of them; `get_embedding_dimension()`, `max_seq_length`, and
`save_pretrained(folder, create_model_card=False)`, which writes what the library's `text` reads, tokenizer and all.
"""

import importlib
import math
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

from torch import nn

from pullpush.encoders.weights import Loaded
from pullpush.errors import UserError
from pullpush.names import did_you_mean

__all__ = [
    "IMAGE",
    "TEXT",
    "About",
    "Joint",
    "Library",
    "about",
    "image_backbone",
    "joint",
    "libraries",
    "library",
    "own_size",
    "scale_of",
    "text_backbone",
]

IMAGE, TEXT = "timm", "sentence_transformers"
"""The libraries of names that say none."""


class About(NamedTuple):
    """What is known of a model before its weights are read.

    Attributes:
        kinds: the encoders that it has: `image`, `text` or both in one space.
        size: side in pixels of the images that it was trained with; 0 without images.
    """

    kinds: tuple[str, ...]
    size: int = 0


class Joint(NamedTuple):
    """What joins the two towers of a model.

    Attributes:
        dim: dimensions of their space.
        temperature: by which the cosine of an image and a text is divided; None where it has none.
        bias: what is added then, of a sigmoid for each pair; None where it has none.
    """

    dim: int
    temperature: float | None = None
    bias: float | None = None


def scale_of(tensors: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The temperature and the bias of a joint model, which multiplies cosines by `exp(logit_scale)`."""
    scale, bias = (tensors.get(name) for name in ("logit_scale", "logit_bias"))
    return None if scale is None else math.exp(-scale.item()), None if bias is None else bias.item()


class Library(Protocol):
    """What a file of this package declares: `about`, and `image` with `own_size`, `text`, or all of them."""

    def about(self, name: str) -> About:
        """What there is to be known of the model `name`, a folder or a name on the hub; of its weights nothing is read.

        Raises:
            UserError: there is no such model, or it cannot be had.
        """

    def joint(self, name: str) -> Joint | None:
        """What joins the two towers of the model `name`; None where it has not both. A library without such models
        needs none of this."""

    def image(
        self, name: str, weights: str, size: int, architecture: Mapping[str, Any] | None = None
    ) -> tuple[nn.Module, Loaded]:
        """The image backbone `name` for `size` x `size` images.

        `weights`: `auto`, what the library calls its own; `none` for random ones; or a file. `architecture` is that of
        a backbone that was saved, which is built by it and not by `name`: then nothing is read or downloaded.
        """

    def own_size(self, name: str) -> int:
        """The side of the images that the image backbone `name` is built for; 0 where it takes any."""

    def text(self, name: str) -> Any:
        """The text backbone `name`: a folder, or a name on the hub."""


def libraries() -> list[str]:
    """The names of all libraries."""
    return sorted(each.name for each in pkgutil.iter_modules(__path__))


def library(name: str, usual: str) -> tuple[ModuleType, str]:
    """The library of a backbone's name, and the rest of the name.

    Args:
        name: `LIBRARY:NAME` or `NAME`.
        usual: the library where the name says none.

    Raises:
        UserError: there is no such library.
    """
    said, colon, rest = name.partition(":")
    if not colon:
        said, rest = usual, name
    if said not in libraries():
        hint = did_you_mean(said, libraries(), f"there are {', '.join(libraries())}")
        raise UserError(f"no library of models is called {said!r}, as {name!r} says; {hint}")
    return importlib.import_module(f"{__package__}.{said}"), rest


def about(name: str) -> About:
    """What is known of a model; see `Library.about`.

    Raises:
        UserError: an unknown model, or a hub that cannot be reached.
    """
    module, rest = library(name, IMAGE)
    return cast(Library, module).about(rest)


def joint(name: str) -> Joint | None:
    """What joins the two towers of a model; None of one that has not both.

    Raises:
        UserError: an unknown model, or a hub that cannot be reached.
    """
    module, rest = library(name, IMAGE)
    return cast(Library, module).joint(rest) if hasattr(module, "joint") else None


def image_backbone(
    name: str, weights: str, size: int, architecture: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Loaded]:
    """The image backbone `name` with its weights; see `Library.image`.

    Raises:
        UserError: an unknown model, a hub that cannot be reached, a file that does not fit. Weights that were asked
            for and not found never end in a random backbone.
    """
    return cast(Library, _of("image", name, IMAGE)).image(library(name, IMAGE)[1], weights, size, architecture)


def own_size(name: str) -> int:
    """The side of the images that the image backbone `name` is built for, such as by the embeddings of its positions;
    0 where it takes any. Another one can be asked for all the same, as far as its library can change it.

    Raises:
        UserError: an unknown model.
    """
    return cast(Library, _of("image", name, IMAGE)).own_size(library(name, IMAGE)[1])


def text_backbone(name: str) -> Any:
    """The text backbone `name`; see `Library.text`.

    Raises:
        UserError: a package is missing, or the model cannot be had.
    """
    return cast(Library, _of("text", name, TEXT)).text(library(name, TEXT)[1])


def _of(what: str, name: str, usual: str) -> ModuleType:
    module, _ = library(name, usual)
    if not hasattr(module, what):
        raise UserError(f"{name!r}: {module.__name__.rpartition('.')[2]} has no {what} models")
    return module
