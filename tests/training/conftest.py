"""A run small enough for tests: real images, a real backbone without its weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pullpush.data.synthetic import make_tree
from pullpush.encoders.text import TextEncoder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight classes of four images each."""
    return make_tree("folder", tmp_path_factory.mktemp("photos") / "tree")


@pytest.fixture(scope="session")
def small(photos: Path) -> dict[str, Any]:
    """Options of a run of seconds."""
    return {
        "data": {"source": str(photos), "test": 0.25, "validation": 0.25},
        "encoder": {"name": "test_efficientnet", "weights": "none", "size": 32, "dim": 16},
        "batch": {"classes": 3, "samples": 3},
        "optimizer": {"lr": 1e-3},
        "steps": 12,
        "validate_every": 4,
        "checkpoint_every": 3,
        "tensorboard": False,
        "report": False,
        "views": "none",
        "rerank": "none",
        "table": False,
    }


@pytest.fixture(scope="session")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A text model that loads in no time: the tokenizer of the default one, random weights."""
    from transformers import BertConfig, BertModel

    model = TextEncoder().backbone
    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model[0].model = BertModel(BertConfig(vocab_size=model.tokenizer.vocab_size, **sizes, **no_dropout))
    folder = tmp_path_factory.mktemp("text") / "model"
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)
