"""The run folder: made once, gone on with, never overwritten."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.files import locked, read_yaml, replacing, write_json, write_text
from pullpush.names import dotted
from pullpush.runs.checkpoint import LAST
from pullpush.runs.config import Config, left_open, write_config
from pullpush.runs.log import go_on
from pullpush.runs.options import config_from

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "THEN",
    "changed_options",
    "environment",
    "held_folder",
    "hold",
    "open_run",
    "remove_run",
    "run_folder",
    "save_embeddings",
    "save_results",
    "save_tables",
]

LOCK = ".lock"
THEN = "or choose another --out"

LIBRARIES = ("pullpush", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "faiss-cpu", "pillow")


def run_folder(config: Config) -> Path:
    """Where a run goes: `config.out`, else a new folder named by data, loss and time."""
    name = f"{Path(config.data.source).stem}-{config.loss.name}-{datetime.now():%Y%m%d-%H%M%S}"
    return Path(config.out) if config.out else Path("runs") / name


@contextmanager
def held_folder(fabric: Fabric, config: Config, resume: Path | None) -> Iterator[tuple[Path, bool]]:
    """The run folder, which no other process trains in meanwhile, and whether there is a checkpoint to go on from.

    Of several ranks the first makes it and tells the others. `config.out` is set to it.

    Raises:
        UserError: the folder holds something else, another run or a finished one; or it can't be written.
    """
    folder, resumable = resume or run_folder(config), False
    wrong: UserError | None = None
    with ExitStack() as held:
        if fabric.is_global_zero:
            try:
                if not resume:
                    check_free(folder, config)
                held.enter_context(hold(folder))
                config.out = str(folder)  # before it is written down
                resumable = prepare(folder, config, bool(resume))
            except UserError as error:
                wrong = error
        folder, resumable, wrong = fabric.broadcast((folder, resumable, wrong))
        if wrong is not None:
            raise wrong
        config.out = str(folder)
        yield folder, resumable


def hold(folder: Path) -> AbstractContextManager[None]:
    """The one process that trains in a run folder; the lock ends with it, also when it is killed.

    Raises:
        UserError: another process trains there.
    """
    busy = f"{str(folder)!r} is being trained by process {{holder}}: wait until that has ended, or stop it"
    return locked(folder / LOCK, busy, THEN)


def prepare(folder: Path, config: Config, resume: bool) -> bool:
    """Makes a run folder, or takes the one that is there, and says whether there is a checkpoint to go on from.

    A run that was stopped before its first checkpoint begins again, with `resume` and with the command that made it.
    """
    if not resume:
        check_free(folder, config)
    if (folder / LAST).exists():
        return True
    if (folder / "metrics.json").exists():
        raise UserError(f"{str(folder)!r} is finished, and has no {LAST} to go on from: start anew with another --out")
    if resume and not any(name.partition(".")[0] == "data" for name in read_yaml(folder / "config.yaml")):
        raise UserError(
            f"{str(folder / 'config.yaml')!r} names no data, as that of a run does, and there is no {LAST}: give "
            f"pullpush train --config {folder / 'config.yaml'} with --data and another --out"
        )
    write_config(config, folder / "config.yaml", THEN)
    write_json(folder / "environment.json", environment(), THEN)
    return False


def check_free(folder: Path, config: Config) -> None:
    """Raises unless the folder is new, was left by a run of `config` before its end, or by one that hardly began."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} exists and is no folder: choose another --out")
    there = {path.name for path in folder.iterdir() if path.name != LOCK and path.suffix != ".part"}
    if "config.yaml" not in there:
        if there:
            raise UserError(f"{str(folder)!r} exists and is no run folder: choose another --out")
        return
    if changed := changed_options(config, folder):
        raise UserError(
            f"{str(folder)!r} exists, with another --{', --'.join(changed)}: choose another --out, or continue that "
            f"run with --resume {folder}"
        )
    if (folder / "metrics.json").exists():
        raise UserError(f"{str(folder)!r} exists and is finished: choose another --out, or see --resume {folder}")


def changed_options(config: Config, folder: Path) -> list[str]:
    """The options in which a configuration differs from that of the run in a folder; where a run lies is none, nor is
    what was left open and settled there.

    Raises:
        UserError: not a run folder, or its options can't be read.
    """
    there = open_run(folder)
    mine, theirs = dotted(config.values()), dotted(there.values())
    open_ones = left_open(config)
    return [name for name in mine if name not in ("out", *open_ones) and mine[name] != theirs.get(name)]


def remove_run(folder: Path) -> None:
    """Takes back a folder in which no step was trained."""
    if not any((folder / "checkpoints").glob("*")) and not (folder / "log.jsonl").exists():
        shutil.rmtree(folder)


def open_run(folder: Path) -> Config:
    """The configuration of a run that is there.

    Raises:
        UserError: not a run folder.
    """
    if not (folder / "config.yaml").exists():
        raise UserError(
            f"{str(folder)!r} is no run folder: it has no config.yaml. If a run was stopped there before it began, "
            "give its command again"
        )
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


def save_embeddings(folder: Path, name: str, embedded: Mapping[str, torch.Tensor]) -> None:
    """The embeddings of a split by tower, float32 [n, dim] in the order of its table; those of the first tower bear no
    tower's name."""
    for place, (tower, embeddings) in enumerate(embedded.items()):
        file_name = f"{name}-{tower}" if place else name
        with replacing(folder / "embeddings" / f"{file_name}.npy", go_on(folder)) as part, part.open("wb") as file:
            np.save(file, embeddings.float().cpu().numpy())


def save_tables(folder: Path, items: Items, texts: pd.DataFrame | None) -> None:
    """The item table with its splits; the texts: split, label (what it belongs to), id (of its first item), text."""
    items.save(folder / "items.parquet", go_on(folder))
    if texts is not None:
        with replacing(folder / "texts.parquet", go_on(folder)) as part:
            texts[["split", "label", "id", "text"]].to_parquet(part, index=False)


def save_results(folder: Path, seen: pd.DataFrame, metrics: dict[str, Any]) -> None:
    """How often items of each class were drawn (class, items, drawn), and metrics.json, the last that a run writes."""
    write_text(folder / "classes_seen.csv", seen.to_csv(index=False), go_on(folder))
    write_json(folder / "metrics.json", metrics, go_on(folder))
