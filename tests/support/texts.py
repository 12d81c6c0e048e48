"""A text model that loads in no time."""

from pathlib import Path
from typing import Any

import torch

from pullpush.encoders.text import TextEncoder

__all__ = ["small_text_model"]


def small_text_model(folder: Path) -> str:
    """Writes the tokenizer of the default one with random weights of one layer, and returns the folder."""
    from transformers import BertConfig, BertModel

    model: Any = TextEncoder().backbone
    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model[0].model = BertModel(BertConfig(vocab_size=model.tokenizer.vocab_size, **sizes, **no_dropout))
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)
