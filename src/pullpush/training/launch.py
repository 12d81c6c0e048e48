"""Before the first step: the processes that train, how they compute, and the folder that they hold."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from pullpush.errors import UserError
from pullpush.runs.config import Config
from pullpush.runs.folder import check_free, hold, prepare, run_folder

__all__ = ["flushed_denormals", "held_folder", "launch"]


def launch(config: Config, callbacks: list[Any]) -> Fabric:
    """The processes that train, and whom they tell of it.

    Raises:
        UserError: a device that is not there.
    """
    precision: Any = "bf16-mixed" if config.precision == "bf16" else "32-true"
    try:
        fabric = Fabric(accelerator=config.device, devices=config.devices, precision=precision, callbacks=callbacks)
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise UserError(
            f"--device {config.device} with --devices {config.devices} is not to be had here: {error}"
        ) from error
    fabric.launch()
    return fabric


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Denormal numbers make a CPU step several times slower; whoever called gets them back."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def held_folder(fabric: Fabric, config: Config, resume: Path | None) -> Iterator[tuple[Path, bool]]:
    """The run folder, which no other process trains in meanwhile, and whether there is a checkpoint to go on from.

    Of several ranks the first makes it and tells the others.
    """
    folder, resumable = resume or run_folder(config), False
    wrong: UserError | None = None
    with ExitStack() as held:
        if fabric.is_global_zero:
            try:
                if not resume:
                    check_free(folder, config)
                held.enter_context(hold(folder))
                resumable = prepare(folder, config, bool(resume))
            except UserError as error:
                wrong = error
        folder, resumable, wrong = fabric.broadcast((folder, resumable, wrong))
        if wrong is not None:
            raise wrong
        config.out = str(folder)
        yield folder, resumable
