"""Models of a name: those trained here, and those of a library as they are, which need no training here.

A model of a library has its own encoders with the head `none`, of a joint model both, and its own preprocessing. A
model that somebody trained elsewhere is one of timm with a file of weights, whose embedder becomes the head.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pullpush.encoders import bundle
from pullpush.encoders.backbones import About, about, libraries, library
from pullpush.encoders.encoder import CONFIG, Encoder, make_head
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.model import Model
from pullpush.encoders.text import TextEncoder
from pullpush.encoders.weights import fill, read_all
from pullpush.errors import UserError
from pullpush.names import few
from pullpush.transfer import device_of

__all__ = ["Weights", "is_library_name", "load", "short_name"]

Weights = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file of weights, or several that hold the parts of a model; or a word: `auto`, `timm`, `none`."""

AS_IT_IS: Any = {"head": "none", "freeze": True}
USUAL_SIZE = 224
"""Of images, where a model does not say."""
WORDS = ("auto", "timm", "none")
CLASSIFIERS = (1000, 11821, 21841, 21843)
"""Outputs of ImageNet's classifiers, which make no embeddings."""
LOSSES = ("criterion", "loss")
"""What the names of a loss's own weights, such as proxies, begin with."""
MARKERS = {
    "modules.json": "sentence_transformers",
    "open_clip_config.json": "open_clip",
    "config.json": "hf",
}
"""A file of a folder by which a library knows its models, the surest first."""
PROBES = (
    "".join(map(chr, range(32, 127))),
    "A photo of a cat.",
    "Füße, niño, 猫の写真, кошка, صورة, 🙂",
    "word " * 600,
)
"""Texts of which tokenizers that differ make different numbers, the last one longer than any model reads."""


def load(source: str | os.PathLike[str], device: str = "auto", *, weights: Weights | None = None) -> Model:
    """A model: one that was trained here, or that of a library, without training.

    Args:
        source: a run folder or a model folder; or `LIBRARY:NAME`, such as `timm:vit_small_patch16_224.dino`,
            `hf:FOLDER_OR_NAME`, `open_clip:FOLDER_OR_NAME`, `sentence_transformers:FOLDER_OR_NAME`. A folder that is a
            run or a model wins.
        device: where they compute: `auto` (the GPU, where there is one), `cpu`, `cuda:1`, ...
        weights: of an image model of a library: its weights file, such as one that PyTorch Metric Learning or Open
            Metric Learning has trained (safetensors, .pt, .pth), or the files of its parts (trunk and embedder). A
            linear layer after the backbone becomes the head. `none` for random weights.

    Raises:
        UserError: no such model, it cannot be had, or is damaged; no such device; weights that do not fit, or leave
            some of the backbone's random.
    """
    said, files, place = os.fspath(source), _listed(weights), device_of(device)
    if bundle.holds_model(Path(said)):
        if files:
            raise UserError(f"'{said}' holds its own weights: give --weights with the name of a library's model alone")
        model = bundle.load(said, place)
        model.source = os.path.abspath(said)
        return model
    if not is_library_name(said):
        raise UserError(f"no model in '{said}': {_ways(said)}")
    name, known = _absolute(said), about(said)
    encoders: list[Encoder] = []
    if "image" in known.kinds:
        encoders.append(_image(name, known, files))
    elif files:
        raise UserError(f"{said!r} embeds no images: a weights file is of an image model")
    if "text" in known.kinds:
        if files:
            raise UserError(f"{said!r} embeds texts too: it holds its own weights, leave --weights out")
        encoders.append(TextEncoder(name, **AS_IT_IS))
    dims = {each.kind: each.dim for each in encoders}
    if len(set(dims.values())) > 1:
        found = " and ".join(f"{kind}s in {dim}" for kind, dim in dims.items())
        raise UserError(f"{said!r} embeds {found} dimensions, so they have no space in common")
    model = Model([each.to(place) for each in encoders], fingerprint(encoders))
    model.source, model.weights = name, files
    return model


def is_library_name(source: str) -> bool:
    """Whether it is the name of a library's model, `LIBRARY:NAME`."""
    owner, _, name = source.partition(":")
    return bool(name) and owner in libraries()


def short_name(source: str) -> str:
    """What files and folders of a model are called by: `demo` of `runs/demo`, `timm-resnet18` of `timm:resnet18`."""
    if not is_library_name(source):
        path = Path(source)
        return (path.parent if path.name == "model" else path).name
    owner, _, name = source.partition(":")
    return f"{owner}-{Path(name).name.replace(':', '-')}"


def fingerprint(encoders: Sequence[Encoder]) -> str:
    """sha256 over all weights, the preprocessing, and the tokens of some texts.

    It depends neither on where the model lies nor on versions of the libraries.
    """
    digest = hashlib.sha256()
    for each in encoders:
        config = {name: value for name, value in each.config().items() if name not in ("name", "freeze")}
        held: dict[str, Any] = {"kind": each.kind, "config": config, "modules": _modules(each.backbone)}
        if isinstance(each, TextEncoder):
            held["tokens"] = [_plain(each.tokenize([text])) for text in PROBES]
        digest.update(json.dumps(held, sort_keys=True).encode())
        for name, value in sorted(each.state_dict().items()):
            tensor = value.detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _modules(backbone: nn.Module) -> list[Any]:
    """What the modules of a sentence-transformers model say of themselves, such as how tokens are pooled."""
    return [
        [name, type(module).__name__, {key: str(value) for key, value in config().items()}]
        for name, module in backbone.named_modules()
        if (config := getattr(module, "get_config_dict", None)) is not None
    ]


def _plain(tokens: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() for name, value in tokens.items() if isinstance(value, Tensor)}


def _listed(weights: Weights | None) -> tuple[str, ...]:
    if weights is None:
        return ()
    several = [weights] if isinstance(weights, str | os.PathLike) else weights
    return tuple(each if each in WORDS else os.path.abspath(each) for each in (os.fspath(file) for file in several))


def _absolute(name: str) -> str:
    """The same name from wherever it is read: `LIBRARY:FOLDER`, or `open_clip:MODEL:FILE`; timm has names alone."""
    for said, own in (name.split(":", 1), name.rsplit(":", 1)):
        if said != "timm" and Path(own).exists():
            return f"{said}:{os.path.abspath(own)}"
    return name


def _ways(said: str) -> str:
    """What could have been given instead."""
    if ":" in said and not Path(said).exists():
        library(said, "")  # says which it could be
    for marker, owner in MARKERS.items():
        if (Path(said) / marker).is_file():
            return f"it looks like a model of another library, so say of which: {owner}:{said}"
    names = ", ".join(f"{each}:NAME" for each in libraries())
    if said.partition(":")[0] in libraries():
        return f"say which one of this library: {names}"
    return (
        f"neither a run folder nor a model folder ({CONFIG} is missing), nor the name of a library's model, which is "
        f"one of {names}, where NAME can be a folder; a run is made by: pullpush train --out "
        f"{'runs/NAME' if Path(said).exists() else said}"
    )


def _image(name: str, known: About, files: Sequence[str]) -> ImageEncoder:
    if not files or (len(files) == 1 and files[0] in WORDS):
        return ImageEncoder(name, weights=files[0] if files else "auto", size=known.size or USUAL_SIZE, **AS_IT_IS)
    if not name.startswith("timm:"):
        raise UserError(f"{name!r} holds its own weights; a weights file is of a model of timm: timm:NAME")
    missing = next((file for file in files if not Path(file).is_file()), None)
    if missing is not None:
        raise UserError(f"no weights file at '{missing}'")
    encoder = ImageEncoder(name, weights="none", size=known.size or USUAL_SIZE, **AS_IT_IS)
    where = Path(files[0])
    own = encoder.preprocessing
    loaded, left = fill(encoder.backbone, name, read_all(list(map(Path, files))), where, own.mean, own.std, own.fit)
    parameters = dict(encoder.backbone.named_parameters())
    random = [each for each in loaded.missing if each in parameters]
    if random:
        raise UserError(
            f"'{where}' lacks {len(random)} of the {len(parameters)} weights of {name!r} ({few(random)}), which would "
            "be random: name the model that the file is of"
        )
    encoder.loaded = loaded
    _give_head(encoder, left, where)
    return encoder


def _give_head(encoder: ImageEncoder, left: Mapping[str, Tensor], where: Path) -> None:
    """Makes the linear layer that a file holds beside the backbone the head, where there is one.

    Raises:
        UserError: there are several, whose nonlinearities a file of weights does not say; or it does not fit.
    """
    classifier = str(getattr(encoder.backbone, "pretrained_cfg", {}).get("classifier") or "fc")
    layers = {
        name: value
        for name, value in left.items()
        if name.rpartition(".")[2] == "weight" and value.ndim == 2 and not set(name.split(".")) & set(LOSSES)
        if not (name.removesuffix(".weight").endswith(classifier) and len(value) in CLASSIFIERS)
    }
    if not layers:
        return
    (name, weight), *others = layers.items()
    if others or weight.shape[1] != encoder.width:
        raise UserError(
            f"'{where}' holds more than the backbone and a linear layer of its {encoder.width} outputs: "
            f"{few(f'{each} {list(value.shape)}' for each, value in layers.items())}. A file of weights does not say "
            "how they are joined: save the backbone alone"
        )
    own = name.removesuffix("weight")
    bias = left.get(f"{own}bias")
    head = make_head("linear", encoder.width, len(weight))
    head.load_state_dict({"weight": weight, "bias": torch.zeros(len(weight)) if bias is None else bias})
    encoder.head, encoder.head_name, encoder.dim = head, "linear", len(weight)
    unused = tuple(each for each in encoder.loaded.unexpected if not each.startswith(own))
    said = f"{encoder.loaded.source}, its head {own.rstrip('.')}"
    encoder.loaded = replace(encoder.loaded, source=said, unexpected=unused)
