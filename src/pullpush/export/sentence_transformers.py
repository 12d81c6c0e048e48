"""A folder that `SentenceTransformer(FOLDER)` loads, of images, of texts, or of both: with its own modules alone."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from pullpush.encoders.backbones.sentence_transformers import no_progress_bars
from pullpush.encoders.encoder import Encoder
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.model import Model
from pullpush.encoders.text import TextEncoder
from pullpush.errors import UserError
from pullpush.export import transformers
from pullpush.export.check import Embed
from pullpush.export.hf import check_library, save_backbone
from pullpush.extras import need

__all__ = ["read", "write"]


def write(model: Model, folder: Path) -> None:
    """Writes all encoders.

    Raises:
        UserError: the extra `text` is missing, or an encoder is neither of images nor of texts.
    """
    need("text")
    from sentence_transformers import SentenceTransformer

    whole = _of_pair(model)
    if whole is None:
        whole = SentenceTransformer(modules=_routed(model), device="cpu")
    with no_progress_bars():
        whole.save_pretrained(str(folder), create_model_card=False)


def _of_pair(model: Model) -> Any:
    """A joint model of transformers as one module, where its heads have a place in it; else None."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize

    if model.text is None or not transformers.is_own_pair(model):
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            transformers.write_pair(model.image, model.text, Path(folder))
        except UserError:
            return None
        methods = {kind: (f"get_{kind}_features", "pooler_output") for kind in model.encoders}
        first = _transformer(folder, methods, _filled(model.text.backbone))
    return SentenceTransformer(modules=[first, Normalize()], device="cpu")


def _routed(model: Model) -> list[nn.Module]:
    from sentence_transformers.base.modules import Router

    routes: dict[str, Any] = {kind: _modules(encoder) for kind, encoder in model.encoders.items()}
    one: list[nn.Module] = next(iter(routes.values()))
    return [Router(routes, default_route="text" if "text" in routes else None)] if len(routes) > 1 else one


def read(model: Model, folder: Path) -> dict[str, Embed]:
    """What embeds with the export alone."""
    from sentence_transformers import SentenceTransformer

    with no_progress_bars():
        whole: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def embed(inputs: Sequence[Any]) -> Any:
        return whole.encode(list(inputs), batch_size=max(1, len(inputs)), show_progress_bar=False)

    return dict.fromkeys(model.encoders, embed)


def _modules(encoder: Encoder) -> list[nn.Module]:
    from sentence_transformers.base.modules import Normalize

    if not isinstance(encoder, ImageEncoder | TextEncoder):
        raise UserError(f"encoders of the kind {encoder.kind!r} can't be exported, only those of images and texts")
    check_library(encoder, "sentence-transformers")
    if isinstance(encoder, TextEncoder):
        own = _of_words(encoder.backbone) if transformers.is_own(encoder) else encoder.backbone.children()
        return [*own, *_head(encoder), Normalize()]
    with tempfile.TemporaryDirectory() as folder:
        if transformers.is_own(encoder):
            with no_progress_bars():
                transformers.tower(cast(Any, encoder.backbone)).save_pretrained(folder)
            transformers.write_processor(encoder.preprocessing, Path(folder))
        else:
            save_backbone(encoder, Path(folder), with_head=False)
        first = _transformer(folder, {"image": ("forward", "pooler_output")})
    projection = getattr(encoder.backbone, "projection", None)
    return [first, *([] if projection is None else [_dense(projection)]), *_head(encoder), Normalize()]


def _of_words(words: Any) -> list[nn.Module]:
    projection = getattr(words.model, "text_projection", None)
    if projection is None:
        raise UserError(
            f"the head of this text model has no place behind a {type(words.model).__name__} in --to "
            "sentence-transformers; export it --to onnx, openvino or torch"
        )
    with tempfile.TemporaryDirectory() as folder:
        with no_progress_bars():
            words.model.text_model.save_pretrained(folder)
        words.tokenizer.save_pretrained(folder)
        return [_transformer(folder, {"text": ("forward", "pooler_output")}, _filled(words)), _dense(projection)]


def _filled(words: Any) -> dict[str, Any]:
    """How a text tower wants its texts filled up."""
    return {"text": {"padding": words.padding, "max_length": words.max_seq_length, "truncation": True}}


def _transformer(folder: str, methods: Mapping[str, tuple[str, str]], how: Mapping[str, Any] | None = None) -> Any:
    """The module of a folder: of each kind, which method of the model makes which output."""
    from sentence_transformers.base.modules import Transformer

    options: dict[str, Any] = {
        "modality_config": {
            kind: {"method": method, "method_output_name": output} for kind, (method, output) in methods.items()
        },
        "module_output_name": "sentence_embedding",
        **({"processing_kwargs": how} if how else {}),
    }
    with no_progress_bars():
        return Transformer(folder, **options)


def _head(encoder: Encoder) -> list[nn.Module]:
    linear = [module for module in encoder.head.modules() if isinstance(module, nn.Linear)]
    return [_dense(module, None if module is linear[-1] else nn.GELU()) for module in linear]


def _dense(linear: nn.Linear, activation: Any = None) -> nn.Module:
    from sentence_transformers.base.modules import Dense

    options: dict[str, Any] = {"activation_function": activation or nn.Identity(), "bias": linear.bias is not None}
    layer = Dense(linear.in_features, linear.out_features, **options)
    layer.linear.load_state_dict(linear.state_dict())
    return layer
