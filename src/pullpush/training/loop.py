"""The training loop, from top to bottom."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException

from pullpush import progress
from pullpush.bounds import check
from pullpush.data.items import Items
from pullpush.doctor.declaration import typed
from pullpush.errors import UserError
from pullpush.progress import say
from pullpush.runs.checkpoint import BEST, LAST, START, STATE, load_checkpoint, not_of_this_run
from pullpush.runs.config import RESTARTED, Config, write_config
from pullpush.runs.folder import THEN, held_folder, open_run, remove_run, save_tables
from pullpush.runs.options import config_from
from pullpush.training.anomaly import FirstBadTensor
from pullpush.training.averages import MovingAverage
from pullpush.training.callbacks import Callback, Checkpoints, LogFile
from pullpush.training.collapse import Collapse, OnCollapse
from pullpush.training.cpu import flushed_denormals, keep_freed_memory
from pullpush.training.display import Display, planned
from pullpush.training.items import make_items, read_items
from pullpush.training.measure import settle, settle_precision
from pullpush.training.monitor import Monitor
from pullpush.training.pace import Pace
from pullpush.training.results import Results, load_weights
from pullpush.training.run import Run
from pullpush.training.signals import Stopped, StopRequest
from pullpush.training.task import Task
from pullpush.training.trackers import Trackers

# It says which precision it uses and what a GPU could do, at each start.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

__all__ = ["make_items", "read_items", "train"]

# So long the other processes wait for the first one, which evaluates what all have embedded.
PATIENCE = timedelta(days=2)
# What whoever starts processes on several machines sets, torchrun or a cluster.
STARTED = {"MASTER_ADDR", "SLURM_NTASKS", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE"}
# Steps whose numbers are written together: reading them waits for the device.
WRITE_EVERY = 10


def train(
    config: Config | None = None,
    *,
    resume: str | Path | None = None,
    items: Items | None = None,
    callbacks: Sequence[Callback | Callable[[Run, int], None]] = (),
    loggers: Sequence[Logger] = (),
    quiet: bool = False,
    since: float | None = None,
    **options: Any,
) -> Path:
    """Trains, evaluates on classes that were not trained on, and leaves a run folder.

        train(data="emoji", loss={"name": "circle", "margin": 0.4}, steps=200, out="runs/circle")

    Args:
        config: of the run, which says everything, is copied, and stays as it is; or give its options by name.
        resume: a run folder to continue from its last checkpoint; it ends as the uninterrupted run would have. So does
            `out` with the options of an unfinished run.
        items: what `config.data` and the seed stand for, where it was read before (studies read it once).
        callbacks: functions that are called after each step with the run and the number of the step, or objects with
            methods of `Callback`.
        loggers: Fabric's loggers, which take all numbers beside log.jsonl; `trackers` names some.
        quiet: show nothing while it goes.
        since: when the work began of which this is a part, as of `time.perf_counter`; its `minutes` count from there.
        options: of the run, nested or dotted, where no `config` is given.

    Returns:
        The run folder.

    Raises:
        UserError: wrong options or data, a folder of another run or of a finished one, or in which another process
            trains, a loss that is no number, a full disk.
        Stopped: Ctrl-C or SIGTERM; the state is saved first.
    """
    since = time.perf_counter() if since is None else since
    keep_freed_memory()
    if config is not None and options:
        raise UserError(f"a Config says everything: set {', '.join(options)} in it")
    # A copy, checked again: the caller's is not changed, and may have been since it was made.
    chosen = options if config is None else check("config", config, Config).values()
    resume = Path(resume) if resume else None
    config = open_run(resume) if resume else config_from(chosen)
    trackers = Trackers(config.trackers, loggers, config.tensorboard)
    if config.gradient_cache and config.processes > 1:
        raise UserError("the gradient cache runs in one process: leave out --gradient_cache, or --devices and --nodes")
    if config.gradient_cache and config.compile_encoder:
        raise UserError("the gradient cache takes no compiled encoder: leave out --gradient_cache or --compile_encoder")
    heard, monitor = [as_callback(each) for each in callbacks], Monitor()
    first: Any = [Pace()] if config.minutes else []
    watching = [FirstBadTensor(), monitor, *heard, Results(), Checkpoints(), OnCollapse(monitor)]
    listeners = [*first, Display(), LogFile(), trackers, *watching]
    settle_precision(config)
    fabric = _fabric(config, listeners)
    fabric.seed_everything(config.seed, verbose=False)
    shown = not quiet and fabric.is_global_zero
    with progress.showing(shown), flushed_denormals(), held_folder(fabric, config, resume) as (folder, going_on):
        run = _begin(config, fabric, folder, going_on, items, since)
        if resume and not going_on:
            say("no checkpoint was written yet: the run begins at its first step")
        _fit(run)
        if run.collapse and run.collapse.then == "restarting":
            run = _restarted(run, run.collapse)
            _fit(run)
        run.tell("on_finish")
        fabric.barrier()
    return folder


def _fabric(config: Config, listeners: Sequence[Any]) -> Fabric:
    """The processes of a run, launched: by Fabric on one machine, by torchrun or a cluster on several."""
    precision: Any = "bf16-mixed" if config.precision == "bf16" else "32-true"
    strategy: Any = DDPStrategy(timeout=PATIENCE) if config.processes > 1 else "auto"
    options: Any = {"accelerator": config.device, "devices": config.devices, "num_nodes": config.nodes}
    if config.nodes > 1 and not STARTED & set(os.environ):
        raise UserError(
            f"--nodes {config.nodes} is for a run that is started on each of the machines: torchrun --nnodes "
            f"{config.nodes} --nproc_per_node {config.devices} --rdzv_backend c10d --rdzv_endpoint HOST:PORT "
            f"-m pullpush train --nodes {config.nodes} --devices {config.devices}"
        )
    try:
        fabric = Fabric(**options, strategy=strategy, precision=precision, callbacks=list(listeners))
        fabric.launch()
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        nodes = f" on {config.nodes} machines (--nodes)" if config.nodes > 1 else ""
        said = f"--device {config.device} with --devices {config.devices}{nodes}"
        why = str(error).rstrip(".")
        raise UserError(f"{said} is not to be had here: {why}; leave it out to take what is there") from error
    return fabric


def as_callback(each: Any) -> Any:
    """A function is called after each step; an object with methods of `Callback` is one."""
    return SimpleNamespace(on_step=each) if callable(each) and not hasattr(each, "on_step") else each


def _begin(config: Config, fabric: Fabric, folder: Path, going_on: bool, items: Items | None, since: float) -> Run:
    """Everything up to the first step; of a run that goes on, up to the first step that is not done yet."""
    config = open_run(folder) if going_on else config  # as it was settled
    last = load_checkpoint(folder / LAST, STATE) if going_on else None
    collapse = last["saved"].get("collapse") if last else None
    if collapse and collapse["then"] == "restarted":
        config = cured(config, collapse["options"])
    try:
        items = make_items(config.data, config.seed) if items is None else items
        tail = 0.0 if going_on else settle(config, items, since, fabric)
        if not going_on and fabric.is_global_zero:
            write_config(config, folder / "config.yaml", THEN)
            save_tables(folder, items, None)  # for whoever looks on; again once it is known what is trained on
        if fabric.is_global_zero:
            progress.plan(*planned(config, items, folder))
        task = _task(config, items, fabric)
        if last is None:
            task.start()
    except UserError:
        if not going_on and fabric.is_global_zero:
            remove_run(folder)
        raise
    for note in task.notes:
        say(note)
    run = _made(config, fabric, folder, task, since)
    run.tail = tail
    if last:
        with not_of_this_run(folder / LAST):
            run.load(last)
        run.since -= last["saved"]["seconds"]
    run.tell("on_setup")
    if last:
        say(f"continuing after step {run.step}")
        return run
    run.tell("on_begin")
    # What was drawn so far depends on what was cached; what training draws must not.
    fabric.seed_everything(config.seed, verbose=False)
    run.tell("on_checkpoint", 0)
    return run


def _task(config: Config, items: Items, fabric: Fabric) -> Task:
    return Task(config, items, fabric.global_rank, fabric.world_size, fabric.device, fabric.local_rank)


def _made(config: Config, fabric: Fabric, folder: Path, task: Task, since: float) -> Run:
    """A run before its first step."""
    module, optimizer = fabric.setup(task.step, torch.optim.AdamW(task.parameter_groups(), fused=True))
    horizon = config.average.ema * (config.steps if config.average.ema <= 1 else 1)
    average = MovingAverage(task.encoders, horizon) if horizon and len(task.splits["validation"]) else None
    return Run(config, folder, task, fabric, module, optimizer, average, since=since)


def cured(config: Config, options: Mapping[str, Any]) -> Config:
    """The options of a run with some others."""
    return config_from(config.values() | dict(options))


def _restarted(run: Run, collapse: Collapse) -> Run:
    """The run once more from its best weights, or the untrained ones where none were better, with the options of the
    collapse; optimiser, criterion and memory are new."""
    config, folder, fabric = cured(run.config, collapse.options), run.folder, run.fabric
    healthy = run.best["step"] and run.best["score"] > run.start
    task = _task(config, run.task.items, fabric)
    again = _made(config, fabric, folder, task, run.since)
    again.tail, again.before, again.start = run.tail, run.before, run.start
    again.collapse = replace(collapse, then="restarted")
    load_weights(again, BEST if healthy else START)
    if healthy:
        again.step, again.best = run.best["step"], run.best
        again.collapse, again.share = replace(again.collapse, since=again.step), again.step / config.steps
    if again.average is not None:
        again.average.update(1)
    where = f"step {again.step}" if again.step else "the start"
    say(f"going back to {where}, with {typed(collapse.options)}")
    if fabric.is_global_zero:
        write_config(config, folder / RESTARTED)
    fabric.seed_everything(config.seed, verbose=False)
    again.tell("on_checkpoint", again.step)
    again.tell("on_setup")
    return again


def _fit(run: Run) -> None:
    """The steps that are not done yet."""
    config, batches, waiting = run.config, run.task.batches(run.step), list[dict[str, Any]]()
    validate_every = config.validation_interval
    if run.collapse and run.collapse.ends:
        return
    try:
        run.tell("on_train_start")
        with StopRequest() as stop:
            while run.step < config.steps:
                step = run.step + 1
                waiting.append(run.do(step, next(batches)))
                run.tell("on_step", step)

                last, stopped = step == config.steps, stop.number is not None
                validate = last or step % validate_every == 0
                keep = last or stopped or step % config.checkpoint_every == 0
                if step == 1 or validate or keep or step % WRITE_EVERY == 0:
                    run.write(step, waiting)
                if validate:
                    run.tell("on_validate", step)
                if step == 1 or validate or step % WRITE_EVERY == 0:
                    run.tell("on_look", step, validate)
                ends = run.collapse is not None and run.collapse.ends
                if keep or ends:
                    run.tell("on_checkpoint", step)
                if ends:
                    return
                if stop.number is not None and not last:
                    raise Stopped(
                        f"stopped after step {step}, saved. Go on with: pullpush train --resume {run.folder}",
                        stop.number,
                    )
    finally:
        run.tell("on_train_end")
