"""Image models of transformers, in the layout that all image backbones have here."""

import json
import re
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from pullpush.encoders.backbones.hf.loading import transformers
from pullpush.errors import UserError
from pullpush.modes import evaluating

__all__ = ["Vision", "check_embedding", "family_of", "rebuilt"]

LAST = (99999,)
"""timm's sign of what belongs to the group before it."""


class Family(NamedTuple):
    """How a family of models makes one embedding of its last hidden state.

    Attributes:
        pool: the model's name for it: `token`, `map` (attention), `avg`.
        prefix: tokens before those of places, without registers.
        pooled: the model and its last hidden state to the embedding, as its own `forward` has it.
    """

    pool: str
    prefix: int
    pooled: Callable[[Any, Tensor], Tensor]


def _first(model: Any, last: Tensor) -> Tensor:
    return last[:, 0]


def _pooler(model: Any, last: Tensor) -> Tensor:
    pooled: Tensor = last[:, 0] if model.pooler is None else model.pooler(last)
    return pooled


FAMILIES = {
    **dict.fromkeys(
        ("clip", "altclip", "chinese_clip", "metaclip_2"),
        Family("token", 1, lambda model, last: model.post_layernorm(last[:, 0])),
    ),
    "siglip": Family("map", 0, lambda model, last: model.head(last)),
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit", "dinov3_convnext"), Family("token", 1, _first)),
    **dict.fromkeys(("vit", "beit"), Family("token", 1, _pooler)),
    "deit": Family("token", 2, _pooler),
    **dict.fromkeys(
        ("convnext", "convnextv2"), Family("avg", 0, lambda model, last: model.layernorm(last.mean((-2, -1))))
    ),
    **dict.fromkeys(("resnet", "regnet"), Family("avg", 0, lambda model, last: last.mean((-2, -1)))),
    **dict.fromkeys(("swin", "swinv2"), Family("avg", 0, lambda model, last: last.mean(1))),
}
"""By model type, without the `_vision_model` of towers."""
# Of others the embedding itself stands for the last hidden state: one token.
OTHER = Family("token", 1, _first)


# Numbers of blocks and stages in the names of parameters.
BLOCK = re.compile(r"(?:^|\.)(?:layers?|stages|blocks)\.(\d+)(?=\.)")


class Vision(nn.Module):
    """An image model of transformers with the conventions of timm's.

    Args:
        model: with `last_hidden_state` and `pooler_output`.
        projection: of the embedding into the space of a joint model.
        temperature: by which a joint model divides the cosine of an image and a text.
        bias: what it adds then.
    """

    def __init__(self, model: Any, projection: nn.Module | None, temperature: float | None, bias: float | None) -> None:
        super().__init__()
        self.model, self.projection = model, projection
        self.temperature, self.bias = temperature, bias
        config = model.config
        self.family = FAMILIES.get(family_of(config), OTHER)
        self.global_pool = self.family.pool
        self.num_prefix_tokens = self.family.prefix + (getattr(config, "num_register_tokens", 0) or 0)
        sizes = getattr(config, "hidden_sizes", None) or [getattr(config, "hidden_size", 0)]
        self.num_features = int(sizes[-1])
        takes = signature(model.forward).parameters
        self.patch = 0 if self.global_pool == "avg" else getattr(config, "patch_size", 0)
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}

    @property
    def architecture(self) -> dict[str, Any]:
        """What rebuilds it without its checkpoint."""
        config = json.loads(self.model.config.to_json_string(use_diff=False))
        for aside in ("_name_or_path", "architectures", "dtype", "transformers_version"):
            config.pop(aside, None)
        return {
            "class": type(self.model).__name__,
            "config": config,
            "pooler": getattr(self.model, "pooler", None) is not None,
            "projection": 0 if self.projection is None else int(cast(Any, self.projection).out_features),
            "temperature": self.temperature,
            "bias": self.bias,
        }

    def forward_features(self, images: Tensor) -> Tensor:
        """The last hidden state: tokens `[n, tokens, width]` or maps `[n, width, h, w]`.

        Raises:
            RuntimeError: patches do not fill the images.
        """
        if self.patch and any(side % self.patch for side in images.shape[-2:]):  # it would leave out what is over
            raise RuntimeError(f"its patches have {self.patch} pixels, which must divide the size")
        given = self.model(pixel_values=images, **self.options)
        last: Tensor = given.pooler_output.flatten(1)[:, None] if self.family is OTHER else given.last_hidden_state
        return last

    def forward_head(self, last: Tensor) -> Tensor:
        """The embedding `[n, width]` of the last hidden state."""
        pooled = self.family.pooled(self.model, last)
        return pooled if self.projection is None else cast(Tensor, self.projection(pooled))

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings `[n, width]` of images `[n, 3, size, size]`."""
        return self.forward_head(self.forward_features(images))

    def group_matcher(self, coarse: bool = False) -> Callable[[str], tuple[int, ...]]:
        """Names of parameters to their place from the input on, as `timm.models.group_parameters` takes it: what comes
        before the blocks, the blocks (the stages, if `coarse`), and with the last of them what comes after."""
        names = [name for name, _ in self.named_parameters()]
        places = {name: tuple(map(int, BLOCK.findall(name)[: 1 if coarse else 2])) for name in names}
        begun = next(number for number, name in enumerate(names) if places[name])
        return {
            name: places[name] or ((-1,) if number < begun else LAST) for number, name in enumerate(names)
        }.__getitem__

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether activations are computed again in the backward pass, for less memory.

        Raises:
            UserError: the model can't.
        """
        if enable and not self.model.supports_gradient_checkpointing:
            raise UserError(f"{type(self.model).__name__} of transformers has no gradient checkpointing: leave it out")
        new, old = (f"{each}_checkpointing_{'enable' if enable else 'disable'}" for each in ("activation", "gradient"))
        (getattr(self.model, new, None) or getattr(self.model, old))()


def family_of(config: Any) -> str:
    """The model type of a configuration; of a tower that of the joint model."""
    return str(config.model_type).removesuffix("_vision_model")


def check_embedding(name: str, model: Any, size: int) -> None:
    """Of a family that is not known here, whether it makes one embedding of an image."""
    try:
        with evaluating(model), torch.inference_mode():
            made = getattr(model(torch.zeros(1, 3, size, size)), "pooler_output", None)
    except Exception as error:
        raise UserError(f"{name!r} can't take {size} x {size} images: {error}; change --encoder.size") from error
    if made is None:
        raise UserError(
            f"{name!r}, of the type {model.config.model_type!r}, makes no single embedding of an image; give a model "
            f"of the type {', '.join(FAMILIES)}, or of another with a pooler"
        )


def rebuilt(architecture: Mapping[str, Any]) -> Vision:
    """The model of such an `architecture`, with random weights."""
    kind = getattr(transformers(), architecture["class"], None)
    if not (isinstance(kind, type) and issubclass(kind, transformers().PreTrainedModel)):
        raise UserError(f"transformers {transformers().__version__} has no model {architecture['class']!r}")
    made: Any = kind  # untyped
    model = made(made.config_class.from_dict(dict(architecture["config"])))
    if not architecture["pooler"]:
        model.pooler = None
    width = architecture["projection"]
    projection = nn.Linear(model.config.hidden_size, width, bias=False) if width else None
    return Vision(model, projection, architecture["temperature"], architecture["bias"])
