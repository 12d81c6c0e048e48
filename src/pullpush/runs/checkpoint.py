"""Checkpoints: written whole or not at all, and checked when they are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pullpush.errors import UserError
from pullpush.files import Fields, damaged, replacing
from pullpush.files.tensors import read_checkpoint
from pullpush.runs.log import go_on

__all__ = ["BEST", "LAST", "START", "STATE", "WEIGHTS", "load_checkpoint", "not_of_this_run", "save_checkpoint"]

LAST, BEST, START = (f"checkpoints/{name}.pt" for name in ("last", "best", "start"))

# What is read of the best weights, and what a run continues from.
WEIGHTS: Fields = {"module": {}}
STATE: Fields = {
    "saved": {
        "step": int,
        "seconds": float,
        "before": {},
        "best": {"step": int, "score": float, "metrics": {}},
    },
    **WEIGHTS,
    "optimizer": {"state": {}, "param_groups": list},
    "rng": torch.Tensor,
}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """A kill at any point leaves the old file or the new one.

    Raises:
        UserError: the disk is full or the folder can't be written; the old file stays.
    """
    with replacing(path, go_on(path.parent.parent)) as part, part.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(path: Path, fields: Fields | None = None) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU, with all `fields`.

    Raises:
        UserError: no such file, it is damaged, or holds something else.
    """
    return read_checkpoint(path, fields or {}, _cure(path))


@contextmanager
def not_of_this_run(path: Path) -> Iterator[None]:
    """What goes wrong while the contents of a checkpoint are put to use is a `UserError` that names it."""
    try:
        yield
    except UserError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"it is of another run or model ({error})", _cure(path)) from error


def _cure(path: Path) -> str:
    return f"put a copy in its place, or remove {path.parent} and let --resume {path.parent.parent} begin again"
