"""A folder that `SentenceTransformer(FOLDER)` loads, of images, of texts, or of both: with its own modules alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from pullpush.encoders.encoder import Encoder
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.model import Model
from pullpush.encoders.text import TextEncoder
from pullpush.errors import UserError
from pullpush.export.check import Embed
from pullpush.export.hf import save_backbone
from pullpush.extras import need

__all__ = ["read", "write"]


def write(model: Model, folder: Path) -> None:
    """Writes all encoders.

    Raises:
        UserError: the extra `text` is missing, or an encoder is neither of images nor of texts.
    """
    need("text")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router

    routes: dict[str, Any] = {kind: _modules(encoder) for kind, encoder in model.encoders.items()}
    one = next(iter(routes.values()))
    modules = [Router(routes, default_route="text" if "text" in routes else None)] if len(routes) > 1 else one
    whole = SentenceTransformer(modules=modules, device="cpu")
    whole.save_pretrained(str(folder), create_model_card=False)


def read(model: Model, folder: Path) -> dict[str, Embed]:
    """What embeds with the export alone."""
    from sentence_transformers import SentenceTransformer

    whole: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def embed(inputs: Sequence[Any]) -> Any:
        return whole.encode(list(inputs), batch_size=max(1, len(inputs)), show_progress_bar=False)

    return dict.fromkeys(model.encoders, embed)


def _modules(encoder: Encoder) -> list[nn.Module]:
    from sentence_transformers.base.modules import Normalize, Transformer

    if isinstance(encoder, TextEncoder):
        return [*encoder.backbone.children(), *_head(encoder), Normalize()]
    if not isinstance(encoder, ImageEncoder):
        raise UserError(f"encoders of the kind {encoder.kind!r} can't be exported, only those of images and texts")
    with tempfile.TemporaryDirectory() as folder:
        save_backbone(encoder, Path(folder), with_head=False)
        pooled = {"image": {"method": "forward", "method_output_name": "pooler_output"}}
        first: Any = Transformer(folder, modality_config=pooled, module_output_name="sentence_embedding")
    return [first, *_head(encoder), Normalize()]


def _head(encoder: Encoder) -> list[nn.Module]:
    from sentence_transformers.base.modules import Dense

    layers: list[nn.Module] = []
    linear = [module for module in encoder.head.modules() if isinstance(module, nn.Linear)]
    for number, module in enumerate(linear, 1):
        activation: Any = nn.GELU() if number < len(linear) else nn.Identity()
        layer = Dense(module.in_features, module.out_features, activation_function=activation)
        layer.linear.load_state_dict(module.state_dict())
        layers.append(layer)
    return layers
