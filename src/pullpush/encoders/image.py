"""The image encoder: any timm model with a head."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pullpush.bounds import Dim, Part, Pixels, Seed, Whole, checked
from pullpush.encoders import groups
from pullpush.encoders.heads import Head, make_head
from pullpush.encoders.weights import load_backbone
from pullpush.errors import UserError
from pullpush.images.preprocessing import Preprocessing
from pullpush.maths.similarity import normalize as l2_normalize


class ImageEncoder(nn.Module):
    """Images `[n, 3, size, size]` (normalised by `.preprocessing`) to embeddings `[n, dim]` of length 1.

    - `name`: any timm model, with or without a pretrained tag.
    - `dim`, `head`: the embedding's dimensions, and `linear`, `mlp` or `none` (the features as they are; `dim` is then
      the backbone's width).
    - `weights`: `auto`, `timm`, `none` or a file; see `weights.load_backbone`. What was loaded is kept in `.loaded`.
    - `size`: side of the input in pixels.
    - `hidden`, `dropout`: of the head `mlp`: its width, and the share of values that are dropped in training.
    - `freeze`: the backbone neither learns nor changes its statistics; only the head is trained.
    - `frozen_stages`: so many first stages of the backbone do not learn, the stem being the first. They see the largest
      maps and cost the most, and hold the most general features. Without loaded weights all stages learn.
    - `frozen_norm`: batch-norm statistics stay those of the weights, scale and shift are trained. Small class-balanced
      batches make poor statistics. Without loaded weights there is nothing to keep, and the statistics are trained.
    - `normalize`: whether `forward` ends with the L2 normalisation.
    - `seed`: of the random values of the head (and of the backbone with `weights="none"`).

    Raises: `UserError` for an unknown model, head or size, and for weights that cannot be had.
    """

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
        size: Pixels = 64,
        freeze: bool = False,
        frozen_stages: Whole = 0,
        frozen_norm: bool = True,
        normalize: bool = True,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # modules draw from the global generator: seeded, and put back
            torch.manual_seed(seed)
            self.backbone, self.loaded = load_backbone(name, weights, size)
            self.width = _output_width(self.backbone, name, size)
            self.head = make_head(head, self.width, dim, hidden=hidden, dropout=dropout)
        self.dim = self.width if head == "none" else dim
        self.name, self.head_name, self.normalize, self.freeze = name, head, normalize, freeze
        self.hidden, self.dropout, self.frozen_stages = hidden, dropout, frozen_stages
        self.frozen_norm = frozen_norm and self.loaded.source != "none"
        self.preprocessing = Preprocessing(size, self.loaded.mean, self.loaded.std)
        self.backbone.requires_grad_(not freeze)
        if self.loaded.source != "none":
            _freeze_stages(self.backbone, frozen_stages, name)
        # Convolutions on the CPU run about three times faster with the channels last in memory.
        self.to(memory_format=torch.channels_last)
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings `[n, dim]`."""
        embeddings = self.head(self.features(images))
        return l2_normalize(embeddings) if self.normalize else embeddings

    def features(self, images: Tensor) -> Tensor:
        """The pooled output of the backbone, `[n, width]`: what a frozen encoder needs to compute once only."""
        return self.backbone(images.contiguous(memory_format=torch.channels_last))

    def train(self, mode: bool = True) -> ImageEncoder:
        """Like `nn.Module.train`, except that what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.freeze:
            self.backbone.eval()
        elif self.frozen_norm:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def parameter_groups(
        self, lr: float, *, backbone_scale: float = 1.0, weight_decay: float = 0.01
    ) -> list[dict[str, Any]]:
        """Groups for the optimiser; see `groups.parameter_groups`."""
        return groups.parameter_groups(
            self.backbone, self.head, lr, backbone_scale=backbone_scale, weight_decay=weight_decay
        )

    def config(self) -> dict[str, Any]:
        """What `rebuild` needs, as plain JSON values."""
        return {
            "name": self.name,
            "dim": self.dim,
            "head": self.head_name,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "size": self.preprocessing.size,
            "freeze": self.freeze,
            "frozen_stages": self.frozen_stages,
            "frozen_norm": self.frozen_norm,
            "normalize": self.normalize,
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
        }


def rebuild(config: dict[str, Any]) -> ImageEncoder:
    """The encoder of `ImageEncoder.config()` with random weights, to be filled by `load_state_dict`."""
    options = {key: value for key, value in config.items() if key not in ("mean", "std", "frozen_norm")}
    encoder = ImageEncoder(**options, weights="none")
    encoder.preprocessing = Preprocessing(config["size"], tuple(config["mean"]), tuple(config["std"]))
    encoder.frozen_norm = config["frozen_norm"]
    return encoder.train()


def _freeze_stages(backbone: nn.Module, stages: int, name: str) -> None:
    if not stages:
        return
    groups_of = group_parameters(backbone, backbone.group_matcher(coarse=True))
    if not 0 < stages <= len(groups_of):
        raise UserError(
            f"frozen_stages (--encoder.frozen_stages) is {stages}, but {name!r} has {len(groups_of)} stages, the stem "
            "counted"
        )
    parameters = dict(backbone.named_parameters())
    for stage in sorted(groups_of)[:stages]:
        for each in groups_of[stage]:
            parameters[each].requires_grad_(False)


def _output_width(backbone: nn.Module, name: str, size: int) -> int:
    """Measured, as timm's `num_features` is not the width after pooling for every model."""
    try:
        with torch.no_grad():
            return backbone.eval()(torch.zeros(1, 3, size, size)).shape[-1]
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"'{name}' cannot take {size} x {size} images: {error}. Change size.") from error
