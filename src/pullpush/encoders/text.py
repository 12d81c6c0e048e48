"""The text encoder: any text backbone with a head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from pullpush.bounds import Dim, Part, Seed, checked
from pullpush.encoders.adapter import with_adapter
from pullpush.encoders.backbones import TEXT, text_backbone
from pullpush.encoders.backbones.sentence_transformers import no_progress_bars
from pullpush.encoders.encoder import Encoder, Head, Stored, seeded
from pullpush.encoders.lora import merged
from pullpush.errors import UserError
from pullpush.transfer import moved

__all__ = ["TextEncoder"]


class TextEncoder(Encoder):
    """Lists of `n` strings to embeddings `[n, dim]` of length 1.

    Args:
        name: a text backbone (see `backbones`): a sentence-transformers model, which is a folder or a name on the hub,
            or `LIBRARY:NAME`.
        dim, head, hidden, dropout, normalize: as of `Encoder`.
        freeze: the transformer does not learn; only the head is trained.
        seed: of the random values of the head.

    Raises:
        UserError: the extra `text` is missing, a model that cannot be had, an unknown head.
    """

    kind = "text"
    backbone: Any  # as a SentenceTransformer, which takes seconds to import

    @checked
    def __init__(
        self,
        name: str = "all-MiniLM-L6-v2",
        *,
        dim: Dim = 128,
        head: Head = "mlp",
        hidden: Dim = 512,
        dropout: Part = 0.0,
        freeze: bool = True,
        normalize: bool = True,
        seed: Seed = 0,
    ) -> None:
        backbone = text_backbone(name)
        with seeded(seed):
            width = int(backbone.get_embedding_dimension() or 0)
            super().__init__(name, backbone, width, dim, head, hidden, dropout, freeze, normalize)
        self.train()

    def prepare(self, inputs: Sequence[str], first: int = 0) -> Sequence[str]:
        """The strings themselves; see `Encoder.prepare`."""
        for place, text in enumerate(inputs, first):
            if not isinstance(text, str):
                raise UserError(f"text number {place} is {text!r}, a {type(text).__name__}: give strings")
        return inputs

    def example(self) -> dict[str, Any]:
        """The tokens of one text; see `Encoder.example`."""
        return self._tokens(["text"])

    def features(self, inputs: Sequence[str]) -> Tensor:
        """The sentence embeddings of the transformer, `[n, width]`.

        Raises:
            UserError: one string instead of a list.
        """
        if isinstance(inputs, str):
            raise UserError(f"texts must be a list of strings, not one string: ['{inputs}']")
        if len(inputs) == 0:
            return torch.zeros(0, self.width, device=self.device)
        features: Tensor = self.backbone(self._tokens(inputs))["sentence_embedding"]
        return features

    def _tokens(self, texts: Sequence[str]) -> dict[str, Any]:
        """`tokenize`, on the device."""
        device = self.device
        return {key: moved(value, device) for key, value in self.tokenize(texts).items()}

    def tokenize(self, texts: Sequence[str]) -> dict[str, Any]:
        """The transformer's input for these strings, padded to the longest."""
        tokens: dict[str, Any] = self.backbone.preprocess(list(texts))
        return tokens

    def saved_state(self) -> dict[str, Tensor]:
        """The tensors of the head alone."""
        return {key: value for key, value in self.state_dict().items() if key.startswith("head.")}

    def save_backbone(self, folder: Path) -> None:
        """Writes the transformer with its tokenizer, as its library reads it; see `Encoder.save_backbone`."""
        if self.base:
            return super().save_backbone(folder)
        self.tokenize([""])  # tokenizers save the padding of their last call: let it be the same for all
        backbone: Any = self.backbone if self.lora is None else merged(self.backbone)
        with no_progress_bars():
            backbone.save_pretrained(str(folder), create_model_card=False)

    @classmethod
    def rebuild(cls, stored: Stored) -> Self:
        """The encoder of a bundle; see `Encoder.rebuild`."""
        options, folder = dict(stored.config), stored.bundle / cls.kind
        if (adapter := options.pop("adapter", None)) is None:
            said, colon, _ = options["name"].partition(":")
            encoder = cls(**{**options, "name": f"{said if colon else TEXT}:{folder}"})
            encoder.name = options["name"]
        else:
            encoder = cls(**options)
            encoder.backbone = with_adapter(encoder.backbone, folder, str(adapter.get("base")), encoder.name)
        encoder.head.load_state_dict({key.removeprefix("head."): value for key, value in stored.tensors.items()})
        return encoder
