"""Image models of folders and hub names, with their weights."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pullpush.encoders.backbones import scale_of
from pullpush.encoders.backbones.hf.loading import (
    config_of,
    lacking,
    loading,
    refuse_random,
    transformers,
    where,
)
from pullpush.encoders.backbones.hf.vision import FAMILIES, OTHER, Vision, check_embedding, family_of, rebuilt
from pullpush.encoders.backbones.sentence_transformers import expected
from pullpush.encoders.weights import Loaded, read_weights
from pullpush.errors import UserError
from pullpush.extras import need

__all__ = ["image", "own_size", "trained_size", "vision_of"]

# What makes one embedding in some models.
POOLER = re.compile(r"(?:^|\.)pooler\.")
USUAL = ".models.auto.image_processing_auto"


def image(
    name: str, weights: str, size: int, architecture: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Loaded]:
    """The image model of a folder or of a name on the hub, or the image tower of a joint one.

    Position embeddings are interpolated to the size of the images by the model itself, as transformers does. Code that
    comes with a checkpoint is never run, and of pickles tensors alone are read.

    `weights`: `auto` the checkpoint's own, `none` random ones of its configuration, or a file of them.

    Raises:
        UserError: the package is missing, a model that cannot be had, that takes no images or makes no embedding of
            them, a checkpoint that lacks tensors.
    """
    need("hf")
    if architecture is not None:
        return rebuilt(architecture), Loaded("none", 0, (), (), **expected(None))
    with loading(name):
        how = where(name)
        config = config_of(name, how)
        model, missing, unexpected, source = _model(name, config, weights, how)
        own = expected(_processor(name, config, how)[0])
    tower = _tower(name, model)
    refuse_random(name, [each for each in missing if not POOLER.search(each)])
    if missing:  # checkpoints of classifiers have no pooler: these read the class token
        tower.pooler = None
    backbone = Vision(tower, getattr(model, "visual_projection", None), *scale_of(dict(model.named_parameters())))
    if backbone.family is OTHER:
        check_embedding(name, tower, size)
    matched = 0 if weights == "none" else len(backbone.state_dict())
    return backbone, Loaded(source, matched, (), unexpected, **own)


def own_size(name: str) -> int:
    """The side of the images that the model was made for; 0 where it takes any, as convolutions and windows do.

    It is what its images were resized to; positions may be known for more, as those of DINOv2 are.

    Raises:
        UserError: a model that cannot be had.
    """
    need("hf")
    with loading(name):
        config = config_of(name, how := where(name))
        takes_any = FAMILIES.get(family_of(vision_of(config)), OTHER).pool == "avg"
        return 0 if takes_any else trained_size(name, config, how)


def trained_size(name: str, config: Any, how: Mapping[str, Any]) -> int:
    """The side of the images that a model was trained with; 0 where nothing says it."""
    processor, given = _processor(name, config, how)
    sizes = [getattr(processor, "crop_size", None), processor.size] if given else []
    sides = [each[key] for each in sizes if each for key in ("height", "shortest_edge") if each.get(key)]
    own = getattr(vision_of(config), "image_size", 0) or 0
    return int(sides[0] if sides else own[0] if isinstance(own, list | tuple) else own)


def vision_of(config: Any) -> Any:
    """The configuration of the part that takes images."""
    return getattr(config, "vision_config", config)


def _model(name: str, config: Any, weights: str, how: Mapping[str, Any]) -> tuple[Any, list[str], tuple[str, ...], str]:
    """The model in float32, the tensors that its weights lack, those that it has no use for, and whence they are."""
    if weights == "none":
        return transformers().AutoModel.from_config(config, trust_remote_code=False), [], (), "none"
    options: dict[str, Any] = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    options |= {"weights_only": True, "ignore_mismatched_sizes": True}
    if weights == "auto":
        source = "hf"
        model, info = transformers().AutoModel.from_pretrained(name, **options, **how)
    elif Path(weights).is_file():
        source, held = f"file {Path(weights).name}", read_weights(Path(weights))
        model, info = transformers().MODEL_MAPPING[type(config)].from_pretrained(None, state_dict=held, **options)
    else:
        raise UserError(f"no weights at {weights!r}: give 'auto', 'none' or the path of a weights file")
    return model, lacking(info), tuple(sorted(info["unexpected_keys"])), source


def _tower(name: str, model: Any) -> Any:
    """The part that takes images: of a joint model its tower."""
    tower = getattr(model, "vision_model", model)
    if tower.main_input_name != "pixel_values":
        raise UserError(f"{name!r} is a model of the type {model.config.model_type!r}, which takes no images")
    return tower


def _processor(name: str, config: Any, how: Mapping[str, Any]) -> tuple[Any, bool]:
    """What prepares the images, and whether it came with the model: else it is the usual one of the family, or None."""
    try:
        return transformers().AutoImageProcessor.from_pretrained(name, **how), True
    except OSError:
        if any(Path(name, each).exists() for each in ("preprocessor_config.json", "processor_config.json")):
            raise
    kinds = transformers(USUAL).IMAGE_PROCESSOR_MAPPING_NAMES.get(family_of(config))
    return (None if kinds is None else getattr(transformers(), kinds["torchvision"])()), False
