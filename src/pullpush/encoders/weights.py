"""Weights of backbones: files of them, and proof that they arrived."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pullpush.errors import UserError
from pullpush.files.tensors import read_safetensors, read_torch
from pullpush.images import Fit
from pullpush.names import dotted, few

__all__ = ["Loaded", "by_position", "fill", "load_file", "read_all", "read_weights"]

CURE = "give a safetensors file, or a state dict saved with torch.save"


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
    loaded, _ = fill(backbone, name, read_weights(path), path, mean, std, fit)
    if loaded.missing:
        warnings.warn(f"Weights of '{name}' came only in part from {loaded}", stacklevel=2)
    return loaded


def fill(
    backbone: nn.Module,
    name: str,
    source: Mapping[str, Tensor],
    path: Path,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    fit: Fit,
) -> tuple[Loaded, dict[str, Tensor]]:
    """Loads what fits of tensors into a backbone, whatever their names begin with: `module.`, `trunk.`,
    `extractor.model.`; of several beginnings that under which the most fit.

    Args:
        backbone, name, mean, std, fit: as of `load_file`.
        source: tensors by name.
        path: where they come from, for messages.

    Returns:
        What was loaded, and the tensors of the source that were not.

    Raises:
        UserError: nothing fits.
    """
    target = backbone.state_dict()
    count = Counter(
        beginning
        for key, value in source.items()
        for beginning, own in _endings(key)
        if own in target and target[own].shape == value.shape
    )
    if not count and (mapped := by_position(source, target)) is not None:
        backbone.load_state_dict(mapped)
        left = dict(list(source.items())[len(target) :])
        return Loaded(f"file {path.name}, by position", len(mapped), (), tuple(left), mean, std, fit), left
    if not count:
        raise UserError(
            f"none of the {len(source)} tensors in '{path}' fits {name!r} by name and shape (the file has "
            f"{few(source)}; the model needs {few(target)}): give the weights of this model, or name the file's "
            "model as encoder"
        )
    prefix = max(count, key=lambda each: (count[each], -len(each)))
    own = {key.removeprefix(prefix): value for key, value in source.items() if key.startswith(prefix)}
    matched = {key: value for key, value in own.items() if key in target and target[key].shape == value.shape}
    backbone.load_state_dict(matched, strict=False)
    # The count of batches seen is not a weight, and older files lack it.
    missing = tuple(key for key in target if key not in matched and not key.endswith("num_batches_tracked"))
    used = {prefix + key for key in matched}
    left = {key: value for key, value in source.items() if key not in used}
    return Loaded(f"file {path.name}", len(matched), missing, tuple(left), mean, std, fit), left


def _endings(key: str) -> Iterator[tuple[str, str]]:
    """The ways to take a beginning off a dotted name: `a.b` as ("", "a.b") and ("a.", "b")."""
    parts = key.split(".")
    for at in range(len(parts)):
        own = ".".join(parts[at:])
        yield key.removesuffix(own), own


def read_all(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of several files, such as of a trunk and of its embedder; of more than one by the file's name too."""
    if len(paths) == 1:
        return read_weights(paths[0])
    return {f"{path.stem}.{key}": value for path in paths for key, value in read_weights(path).items()}


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
    """The tensors of a file, those of parts by dotted names: `{"trunk": {...}, "embedder": {...}}`. Pickled code is
    never run: `weights_only`."""
    held = read_safetensors(path, CURE) if path.suffix == ".safetensors" else read_torch(path, CURE)
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping) and "embedder" not in held:
            held = held[key]
    if not isinstance(held, Mapping):
        raise UserError(f"'{path}' holds a {type(held).__name__}, not a state dict; save model.state_dict() instead")
    tensors = {name: value for name, value in dotted(held).items() if isinstance(value, Tensor)}
    return {name: value for name, value in tensors.items() if not name.startswith("optimizer")}
