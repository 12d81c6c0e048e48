"""Files of tensors: safetensors, and what torch saves. No code in a file is ever run."""

import os
import zipfile
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor

from pullpush.files.text import CURE, Fields, check_fields, damaged, regular

__all__ = ["hash_tensors", "read_checkpoint", "read_safetensors", "read_torch"]

LONGEST_HEADER = 16 << 20  # bytes; a header has about 100 a tensor


def hash_tensors(digest: Any, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Adds names and bytes of tensors, one after another, to a digest of hashlib."""
    for name, tensor in tensors:
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())


def read_safetensors(
    path: str | os.PathLike[str], cure: str = CURE, names: Collection[str] | None = None
) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU; with `names`, of those that it has of them alone.

    Raises:
        UserError: no such file, another kind of file, or cut off.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    size = regular(path, cure).stat().st_size
    try:
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if size < 8 or header > min(LONGEST_HEADER, size - 8):
            raise ValueError(f"its header has {header:,} bytes, the file {size:,}")
        if names is not None:
            with safe_open(path, "pt") as opened:
                return {name: opened.get_tensor(name) for name in set(names).intersection(opened.keys())}
        return load_file(path)
    except Exception as error:  # the library's own error, and those of headers that name no known type or shape
        raise damaged(path, error, cure) from error


def read_torch(path: str | os.PathLike[str], cure: str = CURE, mapped: bool = False) -> Any:
    """What `torch.save` wrote, on the CPU: tensors and plain values (`weights_only`).

    Raises:
        UserError: no such file, another kind of file, cut off, or with anything else in it.
    """
    size = regular(path, cure).stat().st_size
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch compresses nothing
                if sum(each.file_size for each in archive.infolist()) > size:
                    raise ValueError("it claims to hold more than it does")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises many kinds on damaged files
        raise damaged(path, error, cure) from error


def read_checkpoint(path: str | os.PathLike[str], fields: Fields, cure: str = CURE) -> dict[str, Any]:
    """The mapping that `torch.save` wrote, with all `fields` (`text.check_fields`).

    Raises:
        UserError: as of `read_torch`, or not what `fields` says.
    """
    state = read_torch(path, cure)
    check_fields(state, fields, path, cure)
    return dict(state)
