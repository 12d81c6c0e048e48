"""A model as functions of tensors, with all that lies between pixels or tokens and embeddings: what is exported."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.text import TextEncoder
from pullpush.errors import UserError
from pullpush.maths.similarity import normalize

if TYPE_CHECKING:
    from pullpush.encoders.encoder import Encoder
    from pullpush.encoders.model import Model

__all__ = ["Graph", "graphs_of", "image_name"]

TOKENS = 512
"""The longest text, where the text model does not say."""


@dataclass(frozen=True)
class Graph:
    """One encoder as a function of tensors.

    Attributes:
        name: its file's: `image`; `image-88` for images of another size, which a test view needs; `text`.
        module: the inputs to float32 `[n, dim]`, each row of length 1; in evaluation mode.
        inputs: their names. `images`: float32 `[n, 3, size, size]`, values 0 to 1 (`Model.preprocess`). Of texts, what
            the tokenizer gives: int64 `[n, tokens]`.
        example: the inputs of two.
        longest: of a text, in tokens; 0 for images.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    example: tuple[Tensor, ...]
    longest: int = 0

    def dynamic(self) -> tuple[Any, ...]:
        """What may vary: the number of inputs and the tokens of a text; as `torch.export` takes it."""
        sizes = {0: torch.export.Dim("n", min=1, max=1 << 16)}
        if self.longest:
            sizes[1] = torch.export.Dim("tokens", min=2, max=self.longest)
        return (tuple(sizes for _ in self.inputs),)  # the modules take `*inputs`


def graphs_of(model: "Model") -> list[Graph]:
    """Each encoder of a model; that of images once for each size that its views need.

    Raises:
        UserError: an encoder of another kind than images and texts.
    """
    return [graph for encoder in model.encoders.values() for graph in _graphs(encoder, model)]


def image_name(size: int, own: int) -> str:
    """The name of the graph for images of this size, of an encoder whose own size is `own`."""
    return "image" if size == own else f"image-{size}"


def _graphs(encoder: "Encoder", model: "Model") -> list[Graph]:
    if isinstance(encoder, ImageEncoder):
        own = encoder.preprocessing.size
        sizes = sorted({own, *(view.side(own) for view in model.views.all)})
        graph = _OfImages(encoder).eval()
        return [Graph(image_name(size, own), graph, ("images",), (torch.rand(2, 3, size, size),)) for size in sizes]
    if isinstance(encoder, TextEncoder):
        tokens = encoder.tokenize(["a word", "and three more words"])
        inputs = tuple(name for name, value in tokens.items() if isinstance(value, Tensor))
        example = tuple(tokens[name] for name in inputs)
        longest = int(getattr(encoder.backbone, "max_seq_length", None) or TOKENS)
        return [Graph("text", _OfTexts(encoder, inputs).eval(), inputs, example, longest)]
    raise UserError(f"encoders of the kind {encoder.kind!r} can't be exported, only those of images and texts")


class _OfImages(nn.Module):
    """Images `[n, 3, size, size]` of values 0 to 1 to embeddings."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder, own = encoder, encoder.preprocessing
        self.mean, self.std = (nn.Buffer(torch.tensor(each).view(1, 3, 1, 1)) for each in (own.mean, own.std))

    def forward(self, *inputs: Tensor) -> Tensor:
        (images,) = inputs
        return normalize(self.encoder((images - self.mean) / self.std))


class _OfTexts(nn.Module):
    """What the tokenizer gives to embeddings."""

    def __init__(self, encoder: TextEncoder, names: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, names

    def forward(self, *inputs: Tensor) -> Tensor:
        tokens = dict(zip(self.names, inputs, strict=True))
        return normalize(self.encoder.from_features(self.encoder.backbone(tokens)["sentence_embedding"]))
