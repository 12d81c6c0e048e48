"""Image towers of open_clip, in the layout that all image backbones have here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from timm.models import group_parameters
from torch import Tensor, nn

from pullpush.encoders.backbones.open_clip.loading import built, loaded, logit, quick_gelu, resize, source_of
from pullpush.encoders.weights import Loaded, load_file, read_weights
from pullpush.errors import UserError

__all__ = ["Vision", "image"]

NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
LAST = 99999
"""timm's sign of what belongs to the group before it."""


def image(
    name: str, weights: str, size: int, architecture: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Loaded]:
    """The image tower of the model `name`, with its projection, for `size` x `size` images.

    `weights`: `auto` what the name says, `none` random ones, or a file: a checkpoint of open_clip, or the
    model.safetensors of a bundle. Of pickles tensors alone are read.

    Raises:
        UserError: the package is missing, an unknown model or tag, weights that can't be had or are another model's.
    """
    if architecture is not None:
        return _rebuilt(architecture), Loaded("none", 0, (), (), (0.5,) * 3, (0.5,) * 3)
    source = source_of(name)
    mean, std = source.mean_and_std
    ours = Path(weights).is_file() and any(key.startswith("image.backbone.") for key in read_weights(Path(weights)))
    model = loaded(source, size, "none" if ours else weights)
    about = {key: source.config[key] for key in ("embed_dim", "vision_cfg")}
    backbone = Vision(model.visual, {**about, "quick_gelu": quick_gelu(model.visual), "size": size}, *logit(model))
    if ours:
        return backbone, load_file(backbone, name, Path(weights), mean, std, source.fit)
    said = f"file {Path(weights).name}" if weights not in ("auto", "none") else weights.replace("auto", "open_clip")
    matched = 0 if weights == "none" else len(backbone.state_dict())
    return backbone, Loaded(said, matched, (), (), mean, std, source.fit)


class Vision(nn.Module):
    """An image tower of open_clip with the conventions of timm's models.

    Args:
        visual: the tower: a ViT or ResNet of open_clip, or one of timm.
        about: what builds it again.
        temperature: by which the joint model divides the cosine of an image and a text.
        bias: what it adds then.
    """

    def __init__(self, visual: nn.Module, about: Mapping[str, Any], temperature: float, bias: float | None) -> None:
        super().__init__()
        self.visual = visual
        self.about, self.temperature, self.bias = dict(about), temperature, bias
        own: Any = visual
        trunk, self.num_prefix_tokens, self.patch = getattr(own, "trunk", None), 0, 0
        if trunk is not None:
            self.num_features = int(trunk.num_features)
            self.num_prefix_tokens = int(getattr(trunk, "num_prefix_tokens", 0))
            self.global_pool = str(getattr(trunk, "global_pool", "avg") or "map")
        elif hasattr(own, "attnpool"):
            self.num_features, self.global_pool = int(own.attnpool.k_proj.in_features), "map"
        else:
            self.num_features, self.num_prefix_tokens, self.patch = own.conv1.out_channels, 1, own.patch_size[0]
            pool = {"tok": "token", "avg": "avg"}.get(own.pool_type, "map")
            self.global_pool = pool if own.attn_pool is None else "map"

    @property
    def architecture(self) -> dict[str, Any]:
        """What rebuilds it without its checkpoint."""
        return {**self.about, "temperature": self.temperature, "bias": self.bias}

    def forward_features(self, images: Tensor) -> Tensor:
        """Tokens `[n, tokens, width]` or maps `[n, width, h, w]`.

        Raises:
            RuntimeError: patches do not fill the images.
        """
        visual: Any = self.visual
        last: Tensor
        if hasattr(visual, "trunk"):
            last = visual.trunk.forward_features(images)
        elif hasattr(visual, "attnpool"):
            last = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
        else:
            if any(side % self.patch for side in images.shape[-2:]):  # it would leave out what is over
                raise RuntimeError(f"its patches have {self.patch} pixels, which must divide the size")
            last = visual.transformer(visual._embeds(images))
        return last

    def forward_head(self, last: Tensor) -> Tensor:
        """The embedding `[n, width]` of the last tokens or maps."""
        visual: Any = self.visual
        made: Tensor
        if hasattr(visual, "trunk"):
            made = visual.head(visual.trunk.forward_head(last))
        elif hasattr(visual, "attnpool"):
            made = visual.attnpool(last)
        else:
            pooled, _ = visual._pool(last)
            made = pooled if visual.proj is None else pooled @ visual.proj
        return made

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings `[n, width]` of images `[n, 3, size, size]`."""
        return self.forward_head(self.forward_features(images))

    def group_matcher(self, coarse: bool = False) -> Callable[[str], tuple[int, ...]]:
        """Names of parameters to their place from the input on, as `timm.models.group_parameters` takes it: what comes
        before the blocks, the blocks (the stages of a ResNet, if `coarse`), and with the last what comes after."""
        trunk: Any = getattr(self.visual, "trunk", None)
        if trunk is not None:
            groups = group_parameters(trunk, trunk.group_matcher(coarse=coarse))
            places = {f"visual.trunk.{name}": number for number, names in groups.items() for name in names}
            return lambda name: (places.get(name, LAST),)
        return lambda name: _place(name.removeprefix("visual.").split("."), coarse)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether activations are computed again in the backward pass, for less memory.

        Raises:
            UserError: the tower can't.
        """
        if enable and hasattr(self.visual, "attnpool"):
            raise UserError("the ResNets of open_clip have no gradient checkpointing: leave it out")
        visual: Any = self.visual
        visual.set_grad_checkpointing(enable)


def _place(parts: list[str], coarse: bool) -> tuple[int, ...]:
    """Of a parameter of open_clip's own towers."""
    if parts[0] == "transformer":  # transformer.resblocks.NUMBER
        return 0, int(parts[2])
    if parts[0].startswith("layer"):  # layerSTAGE.BLOCK
        return (int(parts[0][5:]),) if coarse else (int(parts[0][5:]), int(parts[1]))
    return (LAST,) if parts[0] in ("ln_post", "proj", "attn_pool", "attn_pool_contrastive", "attnpool") else (-1,)


def _rebuilt(architecture: Mapping[str, Any]) -> Vision:
    """The tower of such an `architecture`, with random weights."""
    about = {key: architecture[key] for key in ("embed_dim", "vision_cfg", "quick_gelu", "size")}
    size, vision = about["size"], dict(about["vision_cfg"])
    timm = "timm_model_name" in vision
    if not timm:
        vision["image_size"] = size
    own = {"embed_dim": about["embed_dim"], "vision_cfg": vision, "text_cfg": NO_TEXT}
    visual = built("the image tower", {**own, "quick_gelu": about["quick_gelu"]}).visual
    if timm and size != vision.get("image_size", 224):
        resize(visual, "the image tower", size)
    return Vision(visual, about, architecture["temperature"], architecture["bias"])
