"""Checkpoints: written whole or not at all, and checked when they are read."""

from pathlib import Path
from typing import Any

import torch

from pullpush.files import Fields, replacing
from pullpush.files.tensors import read_checkpoint

__all__ = ["LAST", "cure_of", "load_checkpoint", "save_checkpoint"]

#: What a run continues from.
LAST: Fields = {
    "saved": {
        "step": int,
        "seconds": float,
        "before": {},
        "best": {"step": int, "score": float, "metrics": {}},
    },
    "module": {},
    "optimizer": {"state": {}, "param_groups": list},
    "rng": torch.Tensor,
}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """A kill at any point leaves the old file or the new one.

    Raises:
        UserError: the disk is full or the folder can't be written; the old file stays.
    """
    with replacing(path, f"then go on with --resume {path.parent.parent}") as part, part.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(path: Path, fields: Fields | None = None) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU, with all `fields`.

    Raises:
        UserError: no such file, it is damaged, or holds something else.
    """
    return read_checkpoint(path, fields or {}, cure_of(path))


def cure_of(path: Path) -> str:
    """What to do about a checkpoint that can't be used."""
    return f"put a copy in its place, or remove {path.parent} and let --resume {path.parent.parent} begin again"
