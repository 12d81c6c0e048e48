"""Models of open_clip: where they are, and what of them is read."""

import copy
import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from pullpush.encoders.backbones import About, Joint, scale_of
from pullpush.encoders.hub import hub_or_cache
from pullpush.errors import UserError
from pullpush.extras import need
from pullpush.files import read_json
from pullpush.files.tensors import read_safetensors
from pullpush.images import Fit, fit_of
from pullpush.names import did_you_mean

__all__ = [
    "FOLDER",
    "Source",
    "about",
    "built",
    "joint",
    "loaded",
    "logit",
    "open_clip",
    "own_size",
    "quick_gelu",
    "quietly",
    "resize",
    "source_of",
]

HUB, FOLDER, CONFIG = "hf-hub:", "local-dir:", "open_clip_config.json"
WEIGHTS = [
    f"{stem}.{end}"
    for end in ("safetensors", "bin", "pt", "pth")
    for stem in ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model")
]
"""Names of a folder's weights, the first ones before the others."""


def open_clip(module: str = "") -> Any:
    """The package, or a module of it: untyped, and slow to import."""
    need("clip")
    return importlib.import_module(f"open_clip{module}")


class Source(NamedTuple):
    """A model of open_clip.

    Attributes:
        name: as open_clip has it, with the scheme of hubs and folders, without a tag.
        config: of the model, as its constructor takes it.
        preprocess: what its weights expect of images, as `PreprocessCfg`.
        tag: of its weights, or their file; empty where that is still open.
        tags: those that there are.
    """

    name: str
    config: dict[str, Any]
    preprocess: Mapping[str, Any]
    tag: str = ""
    tags: tuple[str, ...] = ()

    @property
    def side(self) -> int:
        """Of the images that it is built for."""
        size = self.config["vision_cfg"].get("image_size", 224)
        sides = {int(each) for each in (size if isinstance(size, list | tuple) else (size,))}
        if len(sides) > 1:
            raise UserError(f"{self.name!r} takes images of {size[0]} x {size[1]} pixels; only squares are made here")
        return sides.pop()

    @property
    def fit(self) -> Fit:
        """How its images become squares."""
        return fit_of(self.preprocess["resize_mode"] == "squash", self.preprocess["interpolation"] == "bilinear")

    @property
    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of pixels on a 0..1 scale."""
        mean, std = (tuple(map(float, self.preprocess[name])) for name in ("mean", "std"))
        return mean, std


def about(name: str) -> About:
    """Both towers in one space, of the size that the configuration says."""
    return About(("image", "text"), own_size(name))


def joint(name: str) -> Joint:
    """What joins the two towers, by the weights that the name says; of a file of safetensors nothing else is read."""
    source = source_of(name)
    dim, file = int(source.config["embed_dim"]), _checkpoint(source)
    shared = {"logit_scale"} if source.config.get("init_logit_bias") is None else {"logit_scale", "logit_bias"}
    if file.suffix == ".safetensors":
        held = read_safetensors(file, "give the file that open_clip wrote of this model", shared)
        if held.keys() == shared:
            return Joint(dim, *scale_of(held))
    return Joint(dim, *logit(loaded(source, source.side, "auto")))


def own_size(name: str) -> int:
    """The side of the images that the model `name` is built for."""
    return source_of(name).side


def source_of(name: str) -> Source:
    """The model of a name.

    Raises:
        UserError: the package is missing, there is no such model or tag, the hub can't be reached.
    """
    folder = Path(name.removeprefix(FOLDER))
    if folder.is_dir():
        return _of_file(f"{FOLDER}{folder}", folder / CONFIG)
    if name.startswith(HUB):
        with _downloading(name), quietly():
            file = open_clip(".pretrained").download_pretrained_from_hf(name.removeprefix(HUB), filename=CONFIG)
        return _of_file(name, Path(file))
    return _of_name(name)


def loaded(source: Source, size: int, weights: str) -> Any:
    """The joint model with its weights, for images of this side.

    `weights`: `auto`, those that the name says; `none`; or a file.

    Raises:
        UserError: there are none, they can't be had, or are not the model's.
    """
    config, path = copy.deepcopy(source.config), None
    if weights == "auto":
        path = _checkpoint(source)
        if source.tag in source.tags:  # with which activations its weights were trained
            tagged = open_clip().get_pretrained_cfg(source.name, source.tag)
            config["quick_gelu"] = bool(tagged.get("quick_gelu", False))
    elif weights != "none":
        path = Path(weights)
        if not path.is_file():
            raise UserError(f"no weights at {weights!r}: give 'auto', 'none' or the path of a weights file")
    timm = "timm_model_name" in config["vision_cfg"]
    if not timm:  # its positions are interpolated as they are read
        config["vision_cfg"]["image_size"] = size
    model = built(source.name, config)
    if path is not None:
        try:
            with quietly():
                open_clip().load_checkpoint(model, str(path), strict=True, weights_only=True)
        except Exception as error:  # files fail in many ways
            raise UserError(
                f"the weights in '{path}' are not those of {source.name!r} at {size} px: {_first_line(error)}; give "
                "the file that open_clip wrote of this model"
            ) from error
    if timm and size != source.side:
        resize(model.visual, source.name, size)
    return model


def resize(visual: Any, name: str, size: int) -> None:
    """Makes a tower of timm one for images of this side."""
    try:
        visual.set_input_size(size)
    except (AssertionError, ValueError, TypeError) as error:
        raise UserError(f"{name!r} can't take {size} x {size} images: {error}; change --encoder.size") from error


def built(name: str, config: Mapping[str, Any]) -> Any:
    """The joint model of a configuration, with random weights."""
    own = copy.deepcopy(dict(config))
    own.pop("custom_text", None)
    own["vision_cfg"]["timm_model_pretrained"] = own["text_cfg"]["hf_model_pretrained"] = False
    try:
        with quietly():
            kind = open_clip().CoCa if "multimodal_cfg" in own else open_clip().CustomTextCLIP
            return kind(**own)
    except (TypeError, KeyError, ValueError, AssertionError, OSError, RuntimeError) as error:
        raise UserError(f"open_clip can't build {name!r}: {_first_line(error)}") from error


def logit(model: nn.Module) -> tuple[float, float | None]:
    """`scale_of` a joint model, which has a temperature here."""
    temperature, bias = scale_of(dict(model.named_parameters()))
    assert temperature is not None
    return temperature, bias


def quick_gelu(tower: nn.Module) -> bool:
    """Whether the activations of a tower are those of OpenAI's models."""
    quick = open_clip(".transformer").QuickGELU
    return any(isinstance(module, quick) for module in tower.modules())


@contextmanager
def quietly() -> Iterator[None]:
    """Within it, open_clip logs nothing, and gives the root logger no handler for that."""
    before, handler = logging.root.manager.disable, logging.NullHandler()
    logging.root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(handler)


def _of_file(name: str, file: Path) -> Source:
    if not file.is_file():
        raise UserError(
            f"there is no {CONFIG} in '{file.parent}', so it is no folder of open_clip; one that transformers wrote is "
            "named hf:FOLDER"
        )
    parts = ("embed_dim", "vision_cfg", "text_cfg")
    held = read_json(file, {"model_cfg": dict}, "write the model with open_clip again")
    config = held["model_cfg"]
    if not all(part in config for part in parts):
        raise UserError(f"'{file}' is no configuration of open_clip: model_cfg must have {', '.join(parts)}")
    return Source(name, config, _preprocess(held.get("preprocess_cfg")))


def _of_name(name: str) -> Source:
    model, _, tag = name.partition(":")
    model, known = model.replace("/", "-"), open_clip().list_models()
    if model not in known:
        hint = did_you_mean(model, known, "open_clip.list_models() lists all", most=3)
        where = " and no folder" if "/" in name else ""
        raise UserError(f"{name!r} is no model of open_clip{where}; {hint}")
    tags = tuple(open_clip().list_pretrained_tags_by_model(model))
    clean = tag.lower().replace("-", "_")
    if tag and clean not in tags and not Path(tag).is_file():
        hint = did_you_mean(clean, tags, f"it has: {', '.join(tags) or 'none'}")
        raise UserError(f"open_clip has no weights {tag!r} for {model!r}, and no such file is there; {hint}")
    tag = clean if clean in tags else tag or (tags[0] if len(tags) == 1 else "")
    about = open_clip().get_pretrained_cfg(model, tag if tag in tags else tags[0]) if tags else None
    return Source(model, open_clip().get_model_config(model), _preprocess(about), tag, tags)


def _preprocess(own: Mapping[str, Any] | None) -> dict[str, Any]:
    """The usual of open_clip, with what a model says of its own."""
    usual = vars(open_clip(".transform").PreprocessCfg())
    return {**usual, **{key: value for key, value in (own or {}).items() if key in usual and value is not None}}


def _checkpoint(source: Source) -> Path:
    """The file of the weights that the name says, downloaded where need be."""
    if source.name.startswith(FOLDER):
        folder = Path(source.name.removeprefix(FOLDER))
        found = next((folder / each for each in WEIGHTS if (folder / each).is_file()), None)
        if found is None:
            raise UserError(f"no weights in '{folder}': {WEIGHTS[0]} is missing; add them, or give a file as weights")
        return found
    if source.name.startswith(HUB):
        with _downloading(source.name), quietly():
            return Path(open_clip(".pretrained").download_pretrained_from_hf(source.name.removeprefix(HUB)))
    if not source.tag:
        cure = f"name one of {', '.join(source.tags)}: open_clip:{source.name}:TAG" if source.tags else "give a file"
        several = "several" if source.tags else "no"
        raise UserError(f"open_clip has {several} pretrained weights of {source.name!r}; {cure}")
    if source.tag not in source.tags:
        return Path(source.tag)
    with _downloading(f"{source.name}:{source.tag}"), quietly():
        return Path(open_clip().download_pretrained(open_clip().get_pretrained_cfg(source.name, source.tag)))


@contextmanager
def _downloading(name: str) -> Iterator[None]:
    try:
        with hub_or_cache():
            yield
    except (OSError, RuntimeError) as error:  # what the hub's client, urllib and open_clip raise
        raise UserError(
            f"the model {name!r} is not cached, and can't be had from the model hub: check the name, or give a folder "
            "or a file of weights"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".:")[:300] or type(error).__name__
