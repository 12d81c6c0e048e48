"""Weights of backbones: files of them, and proof that they arrived."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pullpush.errors import UserError
from pullpush.files.tensors import read_safetensors, read_torch
from pullpush.images import Fit
from pullpush.names import few

__all__ = ["Loaded", "by_position", "load_file", "read_weights"]

CURE = "give a safetensors file, or a state dict saved with torch.save"
PREFIXES = ("", "module.", "backbone.", "image.backbone.")  # plain, DataParallel, ours, our bundle's


@dataclass(frozen=True)
class Loaded:
    """What was loaded into a backbone, for the log and the doctor.

    `source` is `none`, `timm`, `package NAME`, `file NAME` or `bundle`; `matched` counts tensors; `missing` names the
    backbone's tensors that kept their random values, `unexpected` what the source held beside (a classifier, mostly).
    `mean` and `std` (per channel, on a 0..1 scale) and `fit` (how an image becomes a square, as of `Preprocessing`) are
    what these weights expect of the input.
    """

    source: str
    matched: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit = "crop"

    def __str__(self) -> str:
        random = f"; left random: {few(self.missing)}" if self.missing else ""
        unused = f"; not used: {few(self.unexpected)}" if self.unexpected else ""
        return f"{self.source}: {self.matched} of {self.matched + len(self.missing)} tensors{random}{unused}"


def load_file(
    backbone: nn.Module, name: str, path: Path, mean: tuple[float, ...], std: tuple[float, ...], fit: Fit = "crop"
) -> Loaded:
    """Loads what fits of a weights file into a backbone; what is missing is warned of.

    A file without a single name of the model's may hold its tensors under those of another implementation; see
    `by_position`.

    Args:
        backbone: of the model `name`.
        name: for messages.
        path: a safetensors, .pt or .pth file.
        mean, std, fit: what its weights expect of the input.

    Raises:
        UserError: it can't be read, or nothing in it fits.
    """
    source = read_weights(path)
    target = backbone.state_dict()

    def fitting(prefix: str) -> dict[str, Tensor]:
        named = {key.removeprefix(prefix): value for key, value in source.items() if key.startswith(prefix)}
        return {key: value for key, value in named.items() if key in target and target[key].shape == value.shape}

    prefix = max(PREFIXES, key=lambda each: len(fitting(each)))
    matched = fitting(prefix)
    if not matched and (mapped := by_position(source, target)) is not None:
        backbone.load_state_dict(mapped)
        unexpected = tuple(source)[len(target) :]
        return Loaded(f"file {path.name}, by position", len(mapped), (), unexpected, mean, std)
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
    loaded = Loaded(f"file {path.name}", len(matched), missing, unexpected, mean, std, fit)
    if missing:
        warnings.warn(f"Weights of '{name}' came only in part from {loaded}", stacklevel=2)
    return loaded


def by_position(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The tensors of one implementation of a model by the names of another one, which has them in the same order.

    Each one must have the shape and the last part of the name (weight, running_mean) of its counterpart. What the
    source holds behind them, a classifier mostly, is left out. None where they don't fit.
    """
    pairs = list(zip(source.items(), target.items(), strict=False))
    fits = len(pairs) == len(target) and all(
        x.shape == own.shape and theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        for (theirs, x), (ours, own) in pairs
    )
    return {ours: x for (_, x), (ours, _) in pairs} if fits else None


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Pickled code is never run: `weights_only`."""
    held = read_safetensors(path, CURE) if path.suffix == ".safetensors" else read_torch(path, CURE)
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping):
        raise UserError(f"'{path}' holds a {type(held).__name__}, not a state dict; save model.state_dict() instead")
    return {str(key): value for key, value in held.items() if isinstance(value, Tensor)}
