"""Text towers of open_clip, with the conventions of a `SentenceTransformer`."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pullpush.encoders.backbones.open_clip.loading import (
    FOLDER,
    Source,
    built,
    loaded,
    logit,
    open_clip,
    quick_gelu,
    quietly,
    source_of,
)
from pullpush.encoders.hub import hub_or_cache
from pullpush.errors import UserError
from pullpush.files import read_json
from pullpush.files.tensors import read_safetensors

__all__ = ["Text", "text"]

TOWER, WEIGHTS, TOKENIZER, TRANSFORMER = "open_clip_text.json", "model.safetensors", "tokenizer", "transformer"
CURE = "write the model again"
NO_IMAGES = {"image_size": 16, "patch_size": 16, "width": 8, "head_width": 8, "layers": 1}
FIELDS = {"embed_dim": int, "text_cfg": dict, "quick_gelu": bool, "temperature": float}


def text(name: str) -> "Text":
    """The text tower of the model `name`, with its projection; or the one that `Text.save_pretrained` wrote.

    Raises:
        UserError: the package is missing, an unknown model or tag, weights that can't be had or are another model's.
    """
    if Path(name, TOWER).is_file():
        return _read(Path(name))
    source = source_of(name)
    model = loaded(source, source.side, "auto")
    about = {key: source.config[key] for key in ("embed_dim", "text_cfg")}
    return Text(model.text, _tokenizer(source), {**about, "quick_gelu": quick_gelu(model.text)}, *logit(model))


class Text(nn.Module):
    """A text tower of open_clip.

    Args:
        tower: a `TextTransformer` or `HFTextEncoder`: int64 `[n, tokens]` to `[n, width]`.
        tokens_of: the tokenizer of open_clip.
        about: what builds the tower again.
        temperature: by which the joint model divides the cosine of an image and a text.
        bias: what it adds then.
    """

    def __init__(
        self, tower: nn.Module, tokens_of: Any, about: Mapping[str, Any], temperature: float, bias: float | None
    ) -> None:
        super().__init__()
        self.tower, self.tokens_of, self.about = tower, tokens_of, dict(about)
        self.temperature, self.bias = temperature, bias
        self.max_seq_length = int(tokens_of.context_length)
        own: Any = tower
        causal = getattr(own, "attn_mask", None) is not None
        self.cut = causal and own.cls_emb is None and own.pool_type == "argmax"
        """Whether nothing behind the end of a text changes its embedding, so that padding can be cut off."""

    def preprocess(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The tokens of texts, `input_ids` int64 [n, tokens]: as open_clip makes them, but for padding without effect.

        Longer texts end where the context of the model ends.
        """
        tokens: Tensor = self.tokens_of(list(texts))
        if self.cut and len(tokens):
            tokens = tokens[:, : int(tokens.argmax(1).max()) + 1].contiguous()
        return {"input_ids": tokens}

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Adds `sentence_embedding` [n, width] to the tokens."""
        tokens = inputs["input_ids"]
        made = self._causal(tokens) if self.cut else self.tower(tokens)
        return {**inputs, "sentence_embedding": made[0] if isinstance(made, tuple) else made}

    def _causal(self, tokens: Tensor) -> Tensor:
        """The tower's own `forward`, of as many tokens as there are; written so that exports take any number."""
        tower: Any = self.tower
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = tower.token_embedding(tokens) + tower.positional_embedding[places]
        mask = torch.full((tokens.shape[1],) * 2, -torch.inf, device=x.device, dtype=x.dtype).triu(1)
        x = tower.ln_final(tower.transformer(x, attn_mask=mask))
        pooled: Tensor = x[torch.arange(x.shape[0], device=x.device), tokens.argmax(1)]
        own = tower.text_projection
        if own is None:
            return pooled
        projected: Tensor = own(pooled) if isinstance(own, nn.Linear) else pooled @ own
        return projected

    @property
    def architecture(self) -> dict[str, Any]:
        """What builds it again, with its weights and tokenizer."""
        return {**self.about, "temperature": self.temperature, "bias": self.bias}

    def get_embedding_dimension(self) -> int:
        """The width of the embedding."""
        return int(self.about["embed_dim"])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether activations are computed again in the backward pass, for less memory."""
        tower: Any = self.tower
        tower.set_grad_checkpointing(enable)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer as transformers has it, which gives the same tokens; texts are not cleaned by it."""
        own = getattr(self.tokens_of, "tokenizer", None)
        return _of_transformers(self.tokens_of) if own is None else own

    def save_pretrained(self, folder: str, create_model_card: bool = False) -> None:
        """Writes the tower alone, with its tokenizer; `text` reads it."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        about = self.architecture
        own = getattr(self.tokens_of, "tokenizer", None)
        if own is not None:
            if fast := getattr(own, "backend_tokenizer", None):  # or the length of its last call would be saved
                fast.no_truncation()
                fast.no_padding()
            self.tokens_of.save_pretrained(str(path / TOKENIZER))
        if "hf_model_name" in about["text_cfg"]:
            tower: Any = self.tower
            tower.config.save_pretrained(str(path / TRANSFORMER))
        (path / TOWER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, path / WEIGHTS)


def _read(folder: Path) -> Text:
    """The tower that `save_pretrained` wrote."""
    about = read_json(folder / TOWER, FIELDS, CURE)
    temperature, bias = about.pop("temperature"), about.pop("bias", None)
    own = dict(about["text_cfg"])
    if "hf_model_name" in own:
        own["hf_model_name"] = str(folder / TRANSFORMER)
    config = {"embed_dim": about["embed_dim"], "text_cfg": own, "vision_cfg": NO_IMAGES}
    model = built("the text tower", {**config, "quick_gelu": about["quick_gelu"]})
    there = (folder / TOKENIZER).is_dir()
    tokens_of = _made(own, str(folder / TOKENIZER) if there else "", own.get("context_length"))
    made = Text(model.text, tokens_of, about, temperature, bias)
    made.load_state_dict(read_safetensors(folder / WEIGHTS, CURE))
    return made


def _tokenizer(source: Source) -> Any:
    """The tokenizer of a model, as open_clip chooses it."""
    try:
        with hub_or_cache() if not source.name.startswith(FOLDER) else nullcontext(), quietly():
            return open_clip().get_tokenizer(source.name)
    except Exception as error:  # packages of tokenizers fail in many ways
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the tokenizer of {source.name!r} can't be had: {lines[0].rstrip('.')}; it belongs beside the weights of "
            "a folder, and comes from the model hub else"
        ) from error


def _made(own: Mapping[str, Any], folder: str, length: int | None) -> Any:
    """The tokenizer of a tower that was saved: of transformers where it has files, else that of CLIP."""
    usual = open_clip(".tokenizer").DEFAULT_CONTEXT_LENGTH
    options = {**(own.get("tokenizer_kwargs") or {}), "context_length": length or usual}
    if not folder:
        return open_clip().SimpleTokenizer(**options)
    return open_clip(".tokenizer").HFTokenizer(folder, tokenizer_mode=own.get("tokenizer_mode"), **options)


def _of_transformers(tokens_of: Any) -> Any:
    """CLIP's tokenizer for transformers, from the vocabulary and the merges of open_clip's."""
    from transformers import CLIPTokenizer

    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in tokens_of.encoder.items()}
    made: Any = CLIPTokenizer(vocabulary, list(tokens_of.bpe_ranks), model_max_length=tokens_of.context_length)
    return made
