"""The run folder: made once, never overwritten."""

import json
import os
import platform
import shutil
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.training.config import Config, write_config
from pullpush.training.options import config_from, read_yaml

__all__ = [
    "create_run",
    "environment",
    "open_run",
    "remove_run",
    "save_embeddings",
    "save_items",
    "save_texts",
    "write_json",
]

LIBRARIES = ("pullpush", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "faiss-cpu", "pillow")


def create_run(config: Config, first: bool = True) -> Path:
    """A new run folder with its config.yaml; `config.out` names it, else data, loss and time do.

    Of several ranks only the first makes it.

    Raises:
        UserError: the folder exists, or can't be written.
    """
    name = f"{Path(config.data.source).stem}-{config.loss['name']}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(config.out) if config.out else Path("runs") / name
    config.out = str(folder)
    if not first:
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{str(folder)!r} exists: choose another --out, or continue that run with --resume {folder}")
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "embeddings").mkdir(exist_ok=True)
        write_config(config, folder / "config.yaml")
        write_json(folder / "environment.json", environment())
    except OSError as error:
        raise UserError(f"can't write the run folder {str(folder)!r}: {error}. Choose another --out.") from error
    return folder


def remove_run(folder: Path) -> None:
    """Takes back a folder that `create_run` made and no step was trained in."""
    if not any((folder / "checkpoints").iterdir()):
        shutil.rmtree(folder)


def open_run(folder: Path) -> Config:
    """The configuration of a run that is there.

    Raises:
        UserError: not a run folder.
    """
    if not (folder / "config.yaml").exists():
        raise UserError(f"{str(folder)!r} is no run folder: it has no config.yaml")
    config = config_from(read_yaml(folder / "config.yaml"))
    config.out = str(folder)
    return config


def environment() -> dict[str, Any]:
    """Versions and machine, for whoever repeats the run."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "python": sys.version.split()[0],
        "system": platform.system(),
        "device": device,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **versions,
    }


def write_json(path: Path, values: Any) -> None:
    """Writes beside and renames, so that a reader never sees half a file."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path)


def save_embeddings(folder: Path, name: str, embeddings: torch.Tensor) -> None:
    """float32 [n, dim], in the order of that split's rows in items.parquet."""
    np.save(folder / "embeddings" / f"{name}.npy", embeddings.float().cpu().numpy())


def save_items(folder: Path, items: Items) -> None:
    """The item table with its splits."""
    items.save(folder / "items.parquet")


def save_texts(folder: Path, texts: pd.DataFrame) -> None:
    """The descriptions: split, label (what each belongs to), id (of the first such item), text."""
    texts[["split", "label", "id", "text"]].to_parquet(folder / "texts.parquet", index=False)
