"""The layout of transformers, of models that are its own: `AutoModel.from_pretrained(FOLDER)`, with the image
processor, and of joint models the tokenizer, beside it.

A linear head becomes one with the projection where the model has one (CLIP), else the classifier of
`AutoModelForImageClassification`, as far as that reads the same features.
"""

import copy
import json
import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pullpush.encoders.backbones.hf.loading import transformers
from pullpush.encoders.backbones.hf.texts import Words, padding_of
from pullpush.encoders.backbones.hf.vision import Vision
from pullpush.encoders.backbones.sentence_transformers import no_progress_bars
from pullpush.encoders.encoder import Encoder
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.model import Model
from pullpush.encoders.text import TextEncoder
from pullpush.errors import UserError
from pullpush.export.check import Embed
from pullpush.images.preprocessing import Preprocessing
from pullpush.modes import evaluating

__all__ = ["is_own", "is_own_pair", "kind_of", "output_of", "read", "tower", "write", "write_pair", "write_processor"]

OUTPUTS = {"WithProjection": "image_embeds", "ForImageClassification": "logits", "": "pooler_output"}
"""Where the embedding is, before it is brought to length 1: by the end of the class's name."""
CLASSES = ".models.auto.modeling_auto"


def is_own(encoder: Encoder) -> bool:
    """Whether the backbone is a model of transformers."""
    return isinstance(encoder.backbone, Vision | Words)


def is_own_pair(model: Model) -> bool:
    """Whether it has the two towers of one family of joint models."""
    if set(model.encoders) != {"image", "text"} or not all(map(is_own, model.encoders.values())):
        return False
    return len({_family(cast(Any, encoder.backbone).model) for encoder in model.encoders.values()}) == 1


def write(encoder: ImageEncoder, folder: Path) -> None:
    """Writes the image encoder, its head `linear` or `none`.

    Raises:
        UserError: the head has no place in a model of this family.
    """
    backbone, head = cast(Vision, encoder.backbone), encoder.head if encoder.head_name == "linear" else None
    if backbone.projection is not None:
        model = _projected(backbone, encoder)
    else:
        model = tower(backbone) if head is None else _classifying(backbone, cast(nn.Linear, head))
    size = encoder.preprocessing.size
    if not _alike(model, encoder, torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))):
        raise _refused(backbone, "head" if head is not None else "way to make one embedding")
    with no_progress_bars():
        model.save_pretrained(str(folder))
    write_processor(encoder.preprocessing, folder)


def write_pair(image: ImageEncoder, text: TextEncoder, folder: Path) -> None:
    """Writes both towers as one joint model, their heads `linear` or `none`.

    Raises:
        UserError: a head has no place in a model of this family.
    """
    vision, words = cast(Vision, image.backbone), cast(Words, text.backbone)
    config = transformers(".models.auto.configuration_auto").CONFIG_MAPPING[_family(vision.model)]()
    state: dict[str, Tensor] = {}
    if vision.projection is not None:
        towers = [_projected(vision, image), _projected(words, text)]
        state = {name: value for each in towers for name, value in each.state_dict().items()}
        config.projection_dim = image.dim
    elif {image.head_name, text.head_name} != {"none"}:
        raise _refused(vision, "head")
    else:
        towers = [vision.model, words.model]
        for part, each in zip(("vision", "text"), towers, strict=True):
            state |= {f"{part}_model.{name}": value for name, value in each.state_dict().items()}
    config.vision_config, config.text_config = (each.config for each in towers)
    model = transformers().AutoModel.from_config(config)
    if vision.temperature is not None:
        state["logit_scale"] = torch.full_like(model.logit_scale, -math.log(vision.temperature))
    if vision.bias is not None:
        state["logit_bias"] = torch.full_like(model.logit_bias, vision.bias)
    model.load_state_dict(state)
    with no_progress_bars():
        model.save_pretrained(str(folder))
    write_processor(image.preprocessing, folder)
    words.tokenizer.save_pretrained(str(folder))


def read(folder: Path, preprocessing: Preprocessing) -> dict[str, Embed]:
    """What embeds with the export alone, of images that are preprocessed."""
    name = kind_of(folder) or ""
    with no_progress_bars():
        network = getattr(transformers(), name).from_pretrained(str(folder), local_files_only=True).eval()
    joint = hasattr(network, "get_text_features")
    images_of = network.get_image_features if joint else network

    @torch.inference_mode()
    def embed(images: Any) -> Any:
        return getattr(images_of(pixel_values=preprocessing(images)), output_of(name)).flatten(1).numpy()

    @torch.inference_mode()
    def embed_text(texts: Any) -> Any:
        return network.get_text_features(**tokens(texts)).pooler_output.numpy()

    if not joint:
        return {"image": embed}
    tokenizer = transformers().AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    tokens = Words(network.text_model, tokenizer, padding_of(_family(network))).preprocess
    return {"image": embed, "text": embed_text}


def kind_of(folder: Path) -> str | None:
    """The class of transformers that reads a folder; None where none of it does."""
    named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures")
    return str(named[0]) if named else None


def output_of(name: str) -> str:
    """Where a class of transformers has the embedding."""
    return next(output for end, output in OUTPUTS.items() if name.endswith(end))


def tower(backbone: Vision) -> Any:
    """The model whose `pooler_output` is the embedding, before the projection of a joint model.

    One without a pooler, whose embedding is the class token, gets one that changes nothing.
    """
    config = copy.deepcopy(backbone.model.config)
    if getattr(backbone.model, "pooler", None) is not None or not hasattr(config, "pooler_act"):
        return backbone.model
    config.pooler_act, config.pooler_output_size = "linear", config.hidden_size
    model = type(backbone.model)(config).eval()
    model.load_state_dict(backbone.model.state_dict(), strict=False)
    nn.init.eye_(model.pooler.dense.weight)
    nn.init.zeros_(model.pooler.dense.bias)
    return model


def write_processor(preprocessing: Preprocessing, folder: Path) -> None:
    """Writes the image processor that makes the input of the model."""
    fit, _, resample = preprocessing.fit.partition(" ")
    size = preprocessing.size
    square = {"height": size, "width": size}
    options: dict[str, Any] = {"resample": 2 if resample == "bilinear" else 3}  # as PIL counts them
    options |= {"image_mean": list(preprocessing.mean), "image_std": list(preprocessing.std), "do_convert_rgb": True}
    if fit == "squash":
        processor = transformers().ViTImageProcessor(size=square, **options)
    else:
        processor = transformers().CLIPImageProcessor(size={"shortest_edge": size}, crop_size=square, **options)
    processor.save_pretrained(str(folder))


@torch.no_grad()
def _projected(backbone: Vision | Words, encoder: Encoder) -> Any:
    r"""A joint model's tower, with the head times the projection as its projection.

    That has no bias: $W (x + W^+ b) = W x + b$ with the pseudo-inverse $W^+$, so the norm before it takes that in.
    """
    if isinstance(backbone, Words):
        part, source, norm = "text", backbone.model.text_model, "final_layer_norm"
        kind: Any = type(backbone.model)
        projection = backbone.model.text_projection
    else:
        part, source, norm = "vision", cast(Any, backbone.model), "post_layernorm"
        projection = cast(nn.Linear, backbone.projection)
        kind = getattr(transformers(), f"{type(source).__name__}WithProjection", None)
    if kind is None or not hasattr(source, norm):
        raise _refused(backbone, "projection")
    weight, bias = projection.weight.double(), getattr(source, norm).bias.double()
    if encoder.head_name == "linear":
        head = cast(nn.Linear, encoder.head)
        weight = head.weight.double() @ weight
        bias = bias + torch.linalg.pinv(weight) @ head.bias.double()
    config = copy.deepcopy(source.config)
    config.projection_dim = len(weight)
    model = kind(config).eval()
    own = getattr(model, f"{part}_model")
    own.load_state_dict(source.state_dict())
    getattr(own, norm).bias.copy_(bias)
    (model.text_projection if part == "text" else model.visual_projection).weight.copy_(weight)
    return model


@torch.no_grad()
def _classifying(backbone: Vision, head: nn.Linear) -> Any:
    """The model with the head as its classifier."""
    kinds = transformers(CLASSES).MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    kind = kinds.get(type(backbone.model.config), None)
    if kind is None:
        raise _refused(backbone, "head")
    config = copy.deepcopy(backbone.model.config)
    config.num_labels = head.out_features
    model = kind(config).eval()
    getattr(model, model.base_model_prefix).load_state_dict(backbone.model.state_dict(), strict=False)
    linear = [module for module in model.classifier.modules() if isinstance(module, nn.Linear)]
    if len(linear) != 1 or linear[0].in_features < head.in_features:
        raise _refused(backbone, "head")
    nn.init.zeros_(linear[0].weight)  # some read the mean of all places, too, behind the class token
    linear[0].weight[:, : head.in_features] = head.weight
    linear[0].bias.copy_(head.bias)
    return model


@torch.inference_mode()
def _alike(model: Any, encoder: ImageEncoder, images: Tensor) -> bool:
    made = getattr(model(pixel_values=images), output_of(type(model).__name__), None)
    with evaluating(encoder):
        wanted = encoder.head(encoder.features(images))
    return made is not None and torch.allclose(made.flatten(1), wanted, rtol=1e-2, atol=1e-2 * float(wanted.std()))


def _family(model: Any) -> str:
    """The model type; of a tower that of the joint model."""
    return str(model.config.model_type).removesuffix("_vision_model").removesuffix("_text_model")


def _refused(backbone: Vision | Words, what: str) -> UserError:
    return UserError(
        f"the {what} of this model has no place in transformers' own {type(backbone.model).__name__}; export it "
        "--to sentence-transformers, onnx, openvino or torch"
    )
