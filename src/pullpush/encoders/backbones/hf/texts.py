"""Text models of folders and hub names: towers of joint models, and all others as sentence-transformers has them."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pullpush.encoders.backbones import sentence_transformers
from pullpush.encoders.backbones.hf.loading import config_of, lacking, loading, refuse_random, transformers, where
from pullpush.extras import need

__all__ = ["Words", "has_tower", "padding_of", "text"]

# Of joint models whose text tower stands alone: its class, and how texts are filled up to one length.
TOWERS = {
    "clip": ("CLIPTextModelWithProjection", "longest"),
    "metaclip_2": ("MetaClip2TextModelWithProjection", "longest"),
    "siglip": ("SiglipTextModel", "max_length"),
}


def text(name: str) -> Any:
    """The text tower of a joint model (CLIP, SigLIP), or any text model as sentence-transformers has it.

    Of a model that says no pooling, the embedding is the mean of its tokens.

    Raises:
        UserError: a package is missing, or the model cannot be had, or lacks tensors.
    """
    need("hf")
    if Path(name, "modules.json").is_file():
        return sentence_transformers.text(name)
    with loading(name):
        how = where(name)
        config = config_of(name, how)
        if has_tower(config):
            kind, padding = TOWERS[_family(config)]
            options = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
            own = getattr(config, "text_config", config)
            if hasattr(config, "projection_dim"):  # the joint model's own, whatever that of its tower says
                own.projection_dim = config.projection_dim
            model, info = getattr(transformers(), kind).from_pretrained(name, config=own, **options, **how)
            refuse_random(name, lacking(info))
            return Words(model, transformers().AutoTokenizer.from_pretrained(name, **how), padding)
    if Path(name).is_dir():
        warnings.warn(f"'{name}' says no pooling: the embedding of a text is the mean of its tokens", stacklevel=2)
    return sentence_transformers.text(name)


def has_tower(config: Any) -> bool:
    """Whether a model has a text tower that stands alone, or is one."""
    return _family(config) in TOWERS


def _family(config: Any) -> str:
    return str(config.model_type).removesuffix("_text_model")


def padding_of(family: str) -> str:
    """How texts are filled up to one length by a family of joint models."""
    return TOWERS[family][1]


class Words(nn.Module):
    """A text tower with the conventions of a `SentenceTransformer`.

    Args:
        model: its output is `text_embeds`, or `pooler_output`.
        tokenizer: of its checkpoint.
        padding: `longest` of the batch, or `max_length`, as the model was trained.
    """

    def __init__(self, model: Any, tokenizer: Any, padding: str) -> None:
        super().__init__()
        self.model, self.tokenizer, self.padding = model, tokenizer, padding

    @property
    def max_seq_length(self) -> int:
        """Tokens of the longest text; what is longer is cut."""
        return int(self.model.config.max_position_embeddings)

    def get_embedding_dimension(self) -> int:
        """The width of the embeddings."""
        config = self.model.config
        return int(getattr(config, "projection_dim", None) or config.projection_size)

    def preprocess(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What `forward` takes, int64 `[n, tokens]` by name."""
        if self.tokenizer.init_kwargs.get("do_lower_case"):  # not each tokenizer obeys what is written in its folder
            texts = [each.lower() for each in texts]
        options = {"truncation": True, "max_length": self.max_seq_length, "return_tensors": "pt"}
        return dict(self.tokenizer(list(texts), padding=self.padding, **options))

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tokens, and `sentence_embedding` `[n, width]`."""
        made = self.model(input_ids=tokens["input_ids"], attention_mask=tokens.get("attention_mask"))
        embedding = getattr(made, "text_embeds", None)
        return {**tokens, "sentence_embedding": made.pooler_output if embedding is None else embedding}

    def save_pretrained(self, folder: str, create_model_card: bool = False) -> None:
        """Writes the tower with its tokenizer, as transformers and `text` read it."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
