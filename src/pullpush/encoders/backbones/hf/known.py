"""What is known of a model before its weights are read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pullpush.encoders.backbones import About, Joint, scale_of, sentence_transformers
from pullpush.encoders.backbones.hf.images import trained_size
from pullpush.encoders.backbones.hf.loading import config_of, loading, transformers, where
from pullpush.encoders.backbones.hf.texts import has_tower
from pullpush.encoders.weights import read_weights
from pullpush.extras import need
from pullpush.files.tensors import read_safetensors

__all__ = ["about", "joint"]

SHARED = ("logit_scale", "logit_bias")


def about(name: str) -> About:
    """A model of images, of texts, or of both in one space.

    Raises:
        UserError: the package is missing, or the model cannot be had.
    """
    need("hf")
    if Path(name, "modules.json").is_file():
        return sentence_transformers.about(name)
    with loading(name):
        config = config_of(name, how := where(name))
        kinds = _kinds(config)
        return About(kinds, trained_size(name, config, how) if "image" in kinds else 0)


def _kinds(config: Any) -> tuple[str, ...]:
    if hasattr(config, "vision_config"):  # of other joint models the towers of images alone
        return ("image", "text") if has_tower(config) else ("image",)
    if has_tower(config):
        return ("text",)
    mapping = transformers().MODEL_MAPPING
    kind = mapping.get(type(config), None)
    return ("image",) if getattr(kind, "main_input_name", "pixel_values") == "pixel_values" else ("text",)


def joint(name: str) -> Joint | None:
    """What joins the two towers of a model; None where it has not both.

    Raises:
        UserError: the package is missing, or the model cannot be had.
    """
    need("hf")
    with loading(name):
        config = config_of(name, how := where(name))
        if _kinds(config) != ("image", "text"):
            return None
        dim = getattr(config, "projection_dim", None) or config.text_config.projection_size
        return Joint(int(dim), *scale_of(_tensors(name, how)))


def _tensors(name: str, how: Mapping[str, Any]) -> dict[str, Tensor]:
    """The two tensors of a checkpoint that both towers share."""

    def file(name_of: str) -> Path | None:
        hub, options = transformers(".utils.hub"), {"_raise_exceptions_for_missing_entries": False, **how}
        options.pop("trust_remote_code")
        found = hub.cached_file(name, name_of, **options)
        return None if found is None else Path(found)

    names = dict.fromkeys(SHARED, "model.safetensors")
    if index := file("model.safetensors.index.json"):
        places = json.loads(index.read_bytes())["weight_map"]
        names = {each: places[each] for each in SHARED if each in places}
    held: dict[str, Tensor] = {}
    for each, place in names.items():
        path = file(place)
        if path is None:
            pickled = file("pytorch_model.bin")
            return {} if pickled is None else read_weights(pickled)
        held |= read_safetensors(path, names=[each])
    return held
