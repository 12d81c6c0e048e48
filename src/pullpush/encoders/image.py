"""The image encoder: any image backbone with a head."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, get_args

import timm
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pullpush.bounds import Bound, Dim, Part, Seed, Whole, checked
from pullpush.encoders.adapter import with_adapter
from pullpush.encoders.backbones import image_backbone, own_size
from pullpush.encoders.encoder import CONFIG, CURE, WEIGHTS, Encoder, Head, Stored, make_head, seeded
from pullpush.encoders.pooling import Pool, Pooling, learned_pool
from pullpush.encoders.small_maps import quick_on_small_maps
from pullpush.encoders.stages import freeze_stages
from pullpush.encoders.weights import Loaded
from pullpush.errors import UserError
from pullpush.files import Fields, check_fields, damaged
from pullpush.images import Fit, any_rgb
from pullpush.images.preprocessing import Preprocessing, squares

__all__ = ["ImageEncoder"]

#: What `ImageEncoder.config` gives, and what memory is taken for at most.
FIELDS: Fields = {
    **dict.fromkeys(("name", "head"), str),
    **dict.fromkeys(("dim", "hidden", "size", "frozen_stages"), int),
    **dict.fromkeys(("freeze", "frozen_norm", "normalize"), bool),
    **dict.fromkeys(("mean", "std"), list),
    "dropout": float,
}
OPTIONAL: dict[str, type] = {"fit": str, "architecture": dict, "pool": str, "adapter": dict}
BOUNDS = {"dim": (0, 1 << 16), "hidden": (0, 1 << 16), "size": (1, 1 << 12)}
USUAL = 64


class ImageEncoder(Encoder):
    """Images `[n, 3, size, size]` (normalised by `.preprocessing`) to embeddings `[n, dim]` of length 1.

    Args:
        name: an image backbone (see `backbones`): any timm model, with or without a pretrained tag, or `LIBRARY:NAME`.
        dim, head, hidden, dropout, normalize: as of `Encoder`.
        weights: `auto`, `timm`, `none` or a file; see `backbones`. `.loaded` says what was loaded.
        size: side of the input in pixels; 0 for the one that the backbone is built for, and 64 of one that takes any.
        freeze: the backbone neither learns nor changes its statistics; only the head is trained.
        frozen_stages: so many first stages of the backbone do not learn, the stem being the first. They see the
            largest maps and cost the most, and hold the most general features. Without loaded weights all stages learn.
        frozen_norm: batch-norm statistics stay those of the weights, scale and shift are trained. Small class-balanced
            batches make poor statistics. Without loaded weights there is nothing to keep, and the statistics are
            trained.
        seed: of the random values of the head (and of the backbone with `weights="none"`).
        architecture: of a backbone that its name does not rebuild, from its bundle.
        pool: how the places of an image become one vector: the backbone's own way (`auto`), its class token, their
            mean, or learned with the head (`pooling.GeM`, `pooling.AttentionPool`).

    Raises:
        UserError: an unknown model, head or size, or weights that cannot be had.
    """

    kind = "image"
    loaded: Loaded

    @checked
    def __init__(
        self,
        name: str = "tf_efficientnet_lite0",
        *,
        dim: Dim = 128,
        head: Head = "linear",
        hidden: Dim = 512,
        dropout: Part = 0.0,
        weights: str = "auto",
        size: Annotated[int, Bound(1, 8192, also=(0,), unit="pixels")] = 0,
        freeze: bool = False,
        frozen_stages: Whole = 0,
        frozen_norm: bool = True,
        normalize: bool = True,
        seed: Seed = 0,
        architecture: Mapping[str, Any] | None = None,
        pool: Pool = "auto",
    ) -> None:
        size = size or own_size(name) or USUAL
        with seeded(seed):
            backbone, loaded = image_backbone(name, weights, size, architecture)
            if getattr(backbone, "as_it_is", False) and not (freeze and head == "none"):
                raise UserError(f"{name!r} is used as it is and not trained: train a model of another library")
            width = _output_width(backbone, name, size)
            super().__init__(name, backbone, width, dim, head, hidden, dropout, freeze, normalize)
        self.pool_name, self._pooling = pool, None if pool == "auto" else Pooling(backbone, pool, size, name)
        self.pool = None if self._pooling is None else learned_pool(pool, self._pooling.width)
        self.loaded, self.frozen_stages, self.weights = loaded, frozen_stages, weights
        self.frozen_norm = frozen_norm and loaded.source != "none"
        self.preprocessing = Preprocessing(size, loaded.mean, loaded.std, loaded.fit)
        if loaded.source != "none":
            freeze_stages(backbone, frozen_stages, name)
        quick_on_small_maps(backbone)
        # Convolutions on the CPU run about three times faster with the channels last in memory.
        self.to(memory_format=torch.channels_last)
        self.train()

    def prepare(self, inputs: Sequence[Any], first: int = 0) -> Tensor:
        """Paths, PIL images and uint8 arrays to what `forward` takes, decoded as in training; see `Encoder.prepare`."""
        return self.preprocessing(_opened(inputs, first)).to(self.device)

    def squares(self, inputs: Sequence[Any], side: int, first: int = 0) -> Tensor:
        """The squares of the same as uint8 `[n, 3, side, side]`, from which views are made (`views.py`)."""
        return squares(_opened(inputs, first), side, self.preprocessing.fit).to(self.device)

    def example(self) -> Tensor:
        """One image; see `Encoder.example`."""
        size = self.preprocessing.size
        return torch.zeros(1, 3, size, size, device=self.device)

    def features(self, inputs: Tensor) -> Tensor:
        """The pooled output of the backbone, `[n, width]`; where pooling is learned, its places one after another,
        `[n, places * channels]`."""
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        if self._pooling is None:
            features: Tensor = self.backbone(inputs)
            return features
        forward_features: Any = self.backbone.forward_features
        return self._reduced(forward_features(inputs))

    def pooled(self, features: Tensor) -> Tensor:
        """`[n, width]` of what `features` gives; see `Encoder.pooled`."""
        if self.pool is None or self._pooling is None:
            return features
        return self._pooling.finished(self.pool(features.unflatten(-1, (-1, self._pooling.width))))

    def from_last(self, last: Tensor) -> Tensor:
        """What the head takes, of the last output of the backbone."""
        if self._pooling is None:
            forward_head: Any = self.backbone.forward_head
            features: Tensor = forward_head(last)
            return features
        return self.pooled(self._reduced(last))

    @property
    def reads_places(self) -> bool:
        """Whether the features are pooled over all places, and not those of a class token or another query's."""
        own = getattr(self.backbone, "global_pool", "avg") not in ("token", "map")
        return own if self.pool_name == "auto" else self.pool_name != "cls"

    def _reduced(self, last: Tensor) -> Tensor:
        assert self._pooling is not None
        if self.pool is not None:
            return self._pooling.places(last).flatten(1)
        return self._pooling.finished(self._pooling.fixed(last))

    def title(self) -> str:
        """Its name and the size of its images."""
        return f"{self.name!r}, size={self.preprocessing.size}"

    def train(self, mode: bool = True) -> Self:
        """Like `nn.Module.train`, except that what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.frozen_norm and not self.freeze:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def config(self) -> dict[str, Any]:
        """What `rebuild` needs, as plain JSON values."""
        return {
            **super().config(),
            "size": self.preprocessing.size,
            "frozen_stages": self.frozen_stages,
            "frozen_norm": self.frozen_norm,
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
            **({"fit": fit} if (fit := self.preprocessing.fit) != "crop" else {}),
            **({"pool": self.pool_name} if self.pool_name != "auto" else {}),
            **({"architecture": own} if (own := getattr(self.backbone, "architecture", None)) else {}),
        }

    @classmethod
    def rebuild(cls, stored: Stored) -> Self:
        """The encoder of a bundle; see `Encoder.rebuild`."""
        config = stored.config
        fields = {**FIELDS, **{name: kind for name, kind in OPTIONAL.items() if name in config}}
        check_fields(config, fields, stored.bundle / CONFIG, CURE)
        for name, (least, most) in BOUNDS.items():
            if not least <= config[name] <= most:
                reason = f"{name} is {config[name]:,}, {least} to {most:,} is built"
                raise damaged(stored.bundle / CONFIG, reason, CURE)
        for name, kind in (("fit", Fit), ("pool", Pool)):
            if name in config and config[name] not in get_args(kind):
                reason = f"{name} is {config[name]!r}, not one of {', '.join(get_args(kind))}"
                raise damaged(stored.bundle / CONFIG, reason, CURE)
        adapter = config.get("adapter")
        if adapter is None:
            _check_shapes(stored)
        # with adapters the backbone is that of its library, and not built from what the bundle says of it
        left_out = ("mean", "std", "fit", "frozen_norm", "adapter", *(["architecture"] if adapter else []))
        options = {key: value for key, value in config.items() if key not in left_out}
        encoder = cls(**options, weights="none" if adapter is None else str(adapter.get("weights")))
        if adapter is not None:
            folder = stored.bundle / cls.kind
            encoder.backbone = with_adapter(encoder.backbone, folder, str(adapter.get("base")), encoder.name)
            if encoder._pooling is not None:
                encoder._pooling.backbone = encoder.backbone
            own = {f"backbone.{name}": value for name, value in encoder.backbone.state_dict().items()}
            stored = stored._replace(tensors={**stored.tensors, **own})
        mean, std = tuple(config["mean"]), tuple(config["std"])
        encoder.preprocessing = Preprocessing(config["size"], mean, std, config.get("fit", "crop"))
        encoder.frozen_norm = config["frozen_norm"]
        encoder.load_state_dict(stored.tensors)
        encoder.loaded = dataclasses.replace(encoder.loaded, source="bundle", matched=len(stored.tensors))
        return encoder.train()


def _opened(inputs: Sequence[Any], first: int) -> list[Image]:
    return [any_rgb(each, f"number {number}") for number, each in enumerate(inputs, first)]


def _check_shapes(stored: Stored) -> None:
    """Compares the file with the encoder that it is said to be before memory is taken for one, which may be huge."""
    options, held = stored.config, {name: tuple(tensor.shape) for name, tensor in stored.tensors.items()}
    first = held.get("head.weight") or held.get("head.0.weight") or (1,)
    with torch.device("meta"):
        backbone, _ = image_backbone(options["name"], "none", options["size"], options.get("architecture"))
        head = make_head(options["head"], first[-1], options["dim"], hidden=options["hidden"])
        pool = learned_pool(options.get("pool", "auto"), int(getattr(backbone, "num_features", 1)))
    needed = {
        f"{part}.{name}": tuple(tensor.shape)
        for part, module in (("backbone", backbone), ("head", head), ("pool", pool or nn.Identity()))
        for name, tensor in module.state_dict().items()
    }
    other = sorted(name for name in needed.keys() | held.keys() if needed.get(name) != held.get(name))
    if other:
        found, wanted = (list(each[other[0]]) if other[0] in each else "none" for each in (held, needed))
        raise UserError(
            f"the model in '{stored.bundle}' is damaged, or another than its {CONFIG} says: of the tensors in "
            f"{WEIGHTS}, {len(other)} are not those of '{options['name']}' in timm {timm.__version__}, the first "
            f"'{other[0]}' {found} instead of {wanted}. It was written with timm "
            f"{stored.timm}: install that, or {CURE}"
        )


def _output_width(backbone: nn.Module, name: str, size: int) -> int:
    """Measured, as timm's `num_features` is not the width after pooling for every model."""
    try:
        with torch.no_grad():
            return int(backbone.eval()(torch.zeros(1, 3, size, size)).shape[-1])
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{name!r} can't take {size} x {size} images: {error}; change --encoder.size") from error
