"""The layout of the library that an image model is of, for the Hugging Face hub.

That of timm is read by `timm.create_model("local-dir:FOLDER", pretrained=True)`; see `transformers.py` for the other.
The linear head is the classifier of the timm model, so that its output is the embedding before it is brought to
length 1.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from pullpush.encoders.backbones import IMAGE, TEXT
from pullpush.encoders.backbones.timm import create
from pullpush.encoders.encoder import Encoder
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.model import Model
from pullpush.errors import UserError
from pullpush.export import transformers
from pullpush.export.check import Embed

__all__ = ["check_library", "read", "save_backbone", "write"]

GRAPHS = "onnx, openvino or torch"


def write(model: Model, folder: Path) -> None:
    """Writes the image encoder.

    Raises:
        UserError: its head is not linear, the backbone is of a library without such a layout, or the model has texts
            too and is no joint model of transformers: that has no place there.
    """
    pair = transformers.is_own_pair(model)
    what = "" if pair or set(model.encoders) == {"image"} else "a model of other encoders than that of images"
    if what or any(encoder.head_name == "mlp" for encoder in model.encoders.values()):
        raise UserError(
            f"{what or 'an mlp head'} has no place in --to hf; export it --to sentence-transformers, {GRAPHS}"
        )
    check_library(model.image, "hf")
    if pair:
        assert model.text is not None
        transformers.write_pair(model.image, model.text, folder)
    elif transformers.is_own(model.image):
        transformers.write(model.image, folder)
    else:
        save_backbone(model.image, folder, with_head=model.image.head_name == "linear")


def check_library(encoder: Encoder, to: str) -> None:
    """Raises `UserError` where the backbone is neither of its kind's own library nor of transformers, or its pooling is
    not its own."""
    owner, colon, _ = encoder.name.partition(":")
    if colon and owner not in (IMAGE if encoder.kind == "image" else TEXT, "hf"):
        raise UserError(f"{encoder.kind} models of {owner} have no place in --to {to}; export it --to {GRAPHS}")
    if isinstance(encoder, ImageEncoder) and encoder.pool_name != "auto":
        raise UserError(f"--encoder.pool {encoder.pool_name} has no place in --to {to}; export it --to {GRAPHS}")


def read(model: Model, folder: Path) -> dict[str, Embed]:
    """What embeds with the export alone, of images that are preprocessed."""
    if transformers.is_own(model.image):
        return transformers.read(folder, model.preprocessing)
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    own = model.preprocessing

    def embed(images: Any) -> Any:
        with torch.inference_mode():
            return network(own(images)).numpy()

    return {"image": embed}


def save_backbone(encoder: ImageEncoder, folder: Path, with_head: bool) -> None:
    """Writes the backbone in timm's layout, with the linear head as its classifier or without one."""
    size, fit, state = encoder.preprocessing.size, encoder.preprocessing.fit, encoder.backbone.state_dict()
    network: Any = create(encoder.name.removeprefix("timm:"), size, encoder.dim if with_head else 0)
    if with_head:
        classifier = network.get_classifier()
        if not isinstance(classifier, nn.Linear) or classifier.in_features != encoder.width:
            raise UserError(f"{encoder.name!r} has no linear classifier, so its head has no place in timm's layout")
        name = next(name for name, module in network.named_modules() if module is classifier)
        state |= {f"{name}.{key}": value for key, value in encoder.head.state_dict().items()}
    network.load_state_dict(state)
    data = {
        "input_size": (3, size, size),
        "interpolation": "bilinear" if fit.endswith("bilinear") else "bicubic",
        "mean": encoder.preprocessing.mean,
        "std": encoder.preprocessing.std,
        "crop_pct": 1.0,
        "crop_mode": "center" if fit.startswith("crop") else "squash",
    }
    save_for_hf(network, str(folder), safe_serialization=True, data_config=data)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for given in ("num_classes", "in_chans", "global_pool"):
        config.get("model_args", {}).pop(given, None)  # transformers gives them again, and fails
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
