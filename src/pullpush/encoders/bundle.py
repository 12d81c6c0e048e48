"""The model on disk: a folder that rebuilds the encoders without downloading anything.

model.safetensors   the image encoder, and the head of the text encoder
config.json         version, fingerprint, both encoders' options with the preprocessing, `extra`
text/               the transformer, as sentence-transformers saves it (only with a text encoder)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from pullpush.encoders import image as image_module
from pullpush.encoders import text as text_module
from pullpush.encoders.heads import make_head
from pullpush.encoders.image import ImageEncoder
from pullpush.encoders.model import Model
from pullpush.encoders.text import TextEncoder
from pullpush.encoders.weights import load_backbone
from pullpush.errors import UserError
from pullpush.files import Fields, check_fields, damaged, read_json, sync, unwritable
from pullpush.files.tensors import read_safetensors

FORMAT, VERSION = "pullpush model", 1
WEIGHTS, CONFIG, TEXT = "model.safetensors", "config.json", "text"
#: What `ImageEncoder.config` gives, and what memory is taken for at most.
IMAGE: Fields = {
    **dict.fromkeys(("name", "head"), str),
    **dict.fromkeys(("dim", "hidden", "size", "frozen_stages"), int),
    **dict.fromkeys(("freeze", "frozen_norm", "normalize"), bool),
    **dict.fromkeys(("mean", "std"), list),
    "dropout": float,
}
LARGEST = {"dim": 1 << 16, "hidden": 1 << 16, "size": 1 << 12}
CURE = "restore it from a copy, or write the model again from its run"


def save(
    folder: str | os.PathLike[str],
    image: ImageEncoder,
    text: TextEncoder | None = None,
    extra: dict[str, Any] | None = None,
    *,
    replace: bool = False,
    then: str = "then write the model again",
) -> str:
    """Writes the bundle and returns its fingerprint.

    Everything is written beside (`.NAME.partial`) and then renamed: `folder` is there whole or not at all. `extra` is
    any JSON value to keep with it; it does not change the fingerprint. `then`: what to do once it can be written.

    Raises: `UserError` when `folder` exists (unless `replace`), or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not replace:
        raise UserError(f"'{folder}' exists already and is kept. Choose another folder or remove it.")
    partial, previous = _beside(folder, "partial"), _beside(folder, "previous")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a save that was killed
        partial.mkdir(parents=True)
        fingerprint = _write(partial, image, text, extra)
        for written in [*partial.rglob("*"), partial]:
            sync(written)
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            folder.rename(previous)  # killed between these two, `load` finds the previous one
        partial.rename(folder)
        sync(folder.parent)
        shutil.rmtree(previous, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise unwritable(folder, error, then) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return fingerprint


def load(path: str | os.PathLike[str], device: str = "cpu") -> Model:
    """The model of a bundle folder, or of a run folder (its `model/`).

    Raises: `UserError` when there is none, when it was written by a later version, or when a file is damaged.
    """
    folder = _find(Path(path))
    config = _read_config(folder)
    seen = _fingerprint(folder, config)
    if seen != config["fingerprint"]:
        raise UserError(
            f"The model in '{folder}' is damaged: its files do not match its fingerprint. Restore it from a copy, "
            "or write it again from the run's checkpoint."
        )
    tensors = read_safetensors(folder / WEIGHTS, CURE)
    image, text = _rebuilt(folder, config, tensors)
    image.load_state_dict(_below("image", tensors))
    image.loaded = dataclasses.replace(image.loaded, source="bundle", matched=len(image.state_dict()))
    if text is not None:
        try:
            text.head.load_state_dict(_below("text.head", tensors))
        except RuntimeError as error:
            raise damaged(folder / WEIGHTS, error, CURE) from error
        text.to(device)
    return Model(image.to(device), text, seen, config["extra"])


def _rebuilt(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[ImageEncoder, TextEncoder | None]:
    """The encoders that the options in config.json describe, without their weights.

    Raises: `UserError` when they can't be built, or the `tensors` of the file are those of others.
    """
    check_fields(config["image"], IMAGE, folder / CONFIG, CURE)
    for name, most in LARGEST.items():
        if not 0 <= config["image"][name] <= most:
            raise damaged(folder / CONFIG, f"{name} is {config['image'][name]:,}, at most {most:,} is built", CURE)
    try:
        _check_shapes(folder, config, _below("image", tensors))
        image = image_module.rebuild(config["image"])
        text = None if config["text"] is None else text_module.rebuild(config["text"], folder / TEXT)
    except UserError:
        raise
    except Exception as error:  # options are handed on to libraries, which fail in many ways
        raise damaged(folder / CONFIG, f"its encoders can't be built ({error})", CURE) from error
    return image, text


def _check_shapes(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Compares the file with the encoder that it is said to be before memory is taken for one, which may be huge."""
    options, held = config["image"], {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first = held.get("head.weight") or held.get("head.0.weight") or (1,)
    with torch.device("meta"):
        backbone, _ = load_backbone(options["name"], "none", options["size"])
        head = make_head(options["head"], first[-1], options["dim"], hidden=options["hidden"])
    needed = {
        f"{part}.{name}": tuple(tensor.shape)
        for part, module in (("backbone", backbone), ("head", head))
        for name, tensor in module.state_dict().items()
    }
    other = sorted(name for name in needed.keys() | held.keys() if needed.get(name) != held.get(name))
    if other:
        raise UserError(
            f"The model in '{folder}' is damaged, or another than its {CONFIG} says: of the tensors in {WEIGHTS}, "
            f"{len(other)} are not those of '{options['name']}' in timm {timm.__version__}, the first '{other[0]}' "
            f"{_shape(held, other[0])} instead of {_shape(needed, other[0])}. It was written with timm "
            f"{config['timm']}: install that, or {CURE}."
        )


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return str(list(shapes[name])) if name in shapes else "none"


def _write(folder: Path, image: ImageEncoder, text: TextEncoder | None, extra: dict[str, Any] | None) -> str:
    tensors = {f"image.{key}": value for key, value in image.state_dict().items()}
    if text is not None:
        tensors |= {f"text.head.{key}": value for key, value in text.head.state_dict().items()}
        text.save_backbone(folder / TEXT)
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, folder / WEIGHTS)
    config = {
        "format": FORMAT,
        "version": VERSION,
        "image": image.config(),
        "text": text.config() if text is not None else None,
        "timm": timm.__version__,
        "loaded": str(image.loaded),
        "extra": extra or {},
    }
    config["fingerprint"] = _fingerprint(folder, config)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return config["fingerprint"]


def _fingerprint(folder: Path, config: dict[str, Any]) -> str:
    """sha256 over the encoders' options, and the name and content of every file that they read."""
    digest = hashlib.sha256(json.dumps([config["image"], config["text"]], sort_keys=True).encode())
    for file in [folder / WEIGHTS, *sorted(each for each in (folder / TEXT).rglob("*") if each.is_file())]:
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _find(path: Path) -> Path:
    for folder in (path, path / "model"):
        for each in (folder, _beside(folder, "previous")):
            if (each / CONFIG).is_file():
                return each
    raise UserError(f"No model in '{path}': neither a model folder nor a run folder with model/ ({CONFIG} is missing).")


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    config: dict[str, Any] = read_json(file, {"format": str, "version": int}, CURE)
    written_by, version = config["format"], config["version"]
    if written_by != FORMAT or version != VERSION:
        raise UserError(
            f"'{file}' has the format {written_by!r}, version {version}; this pullpush reads {FORMAT!r}, "
            f"version {VERSION}. Use the pullpush that wrote it."
        )
    check_fields(config, {"image": {}, "text": dict | None, "timm": str, "extra": {}, "fingerprint": str}, file, CURE)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"The model in '{folder}' is damaged: {WEIGHTS} is missing. Restore it from a copy.")
    return config


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix += "."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")
