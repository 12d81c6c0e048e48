"""Checkpoints: written whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch

from pullpush.errors import UserError

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes beside `path`, then renames: a kill at any point leaves the old file or the new one.

    Raises:
        UserError: the disk is full or the folder can't be written; the old file stays.
    """
    beside = path.with_suffix(".part")
    try:
        with beside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        beside.unlink(missing_ok=True)
        raise UserError(
            f"can't write the checkpoint {str(path)!r}: {error}. Make room, then continue with --resume."
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU.

    Raises:
        UserError: no such file, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"{str(path.parent.parent)!r} has no checkpoint {path.name}: start the run anew with --out")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged files
        raise UserError(
            f"the checkpoint {str(path)!r} is damaged ({type(error).__name__}). "
            "Put a copy in its place, or start anew with --out."
        ) from error
    return state
