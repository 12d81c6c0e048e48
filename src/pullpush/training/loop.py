"""The training loop, from top to bottom."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from pullpush import progress
from pullpush.bounds import check
from pullpush.data.items import Items
from pullpush.doctor.declaration import typed
from pullpush.errors import UserError
from pullpush.progress import say
from pullpush.runs.checkpoint import BEST, LAST, START, STATE, load_checkpoint, not_of_this_run
from pullpush.runs.config import RESTARTED, Config, write_config
from pullpush.runs.folder import THEN, held_folder, open_run, remove_run
from pullpush.runs.options import config_from
from pullpush.training.anomaly import FirstBadTensor
from pullpush.training.averages import MovingAverage
from pullpush.training.callbacks import Callback, Checkpoints, LogFile
from pullpush.training.collapse import Collapse, OnCollapse
from pullpush.training.cpu import flushed_denormals, keep_freed_memory
from pullpush.training.display import Display
from pullpush.training.items import make_items, read_items
from pullpush.training.measure import settle, settle_precision
from pullpush.training.monitor import Monitor
from pullpush.training.pace import Pace
from pullpush.training.results import Results, load_weights
from pullpush.training.signals import Stopped, StopRequest
from pullpush.training.task import Task
from pullpush.training.trackers import Trackers
from pullpush.training.trainable import Trainable

# It says which precision it uses and what a GPU could do, at each start.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

__all__ = ["Run", "make_items", "read_items", "train"]

# Steps whose numbers are written together: reading them waits for the device.
WRITE_EVERY = 10


@dataclass
class Run:
    """A run under way, as callbacks see it.

    Attributes:
        config: its options.
        folder: where it is written.
        task: what is trained.
        fabric: the processes that train, and whom they tell.
        module: `task.step` as Fabric runs it.
        optimizer: of all that is learned.
        average: of the weights along the run, where there is to be one.
        step: steps that are done.
        before: metrics on the test classes before training.
        best: step, score and metrics of the best validation.
        start: score of the untrained model on the validation classes, by which the best weights are chosen.
        collapse: what was done about one, where there was one.
        not_finite: the first tensor that held a number that is not finite, once one was found.
        since: when it began, in seconds of `time.perf_counter`; of a resumed run, without the pause.
        share: of its steps that are done; with minutes, their number changes.
        tail: seconds from the last step to the end, as far as they are known.
    """

    config: Config
    folder: Path
    task: Trainable
    fabric: Fabric
    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None = None
    step: int = 0
    before: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=lambda: {"step": 0, "score": -1.0, "metrics": {}})
    start: float = -1.0
    collapse: Collapse | None = None
    not_finite: str | None = None
    since: float = field(default_factory=time.perf_counter)
    share: float = 0.0
    tail: float = 0.0

    def tell(self, event: str, *args: Any) -> None:
        """Says to all callbacks what has happened."""
        self.fabric.call(event, self, *args)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers of a step, by name, for the log and all trackers."""
        self.tell("on_log", step, numbers)

    def state(self) -> dict[str, Any]:
        """What a run goes on from."""
        seconds = time.perf_counter() - self.since
        return {
            "saved": {
                **{name: getattr(self, name) for name in ("step", "before", "best", "start")},
                **{"seconds": seconds, "collapse": self.collapse and asdict(self.collapse)},
            },
            "pace": {"steps": self.config.steps, "share": self.share, "tail": self.tail},
            "module": self.task.step.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            **({} if self.average is None else {"average": self.average.values}),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes back to what `state` gave."""
        saved = state["saved"]
        if self.config.minutes:
            self.config.steps, self.share, self.tail = (state["pace"][name] for name in ("steps", "share", "tail"))
        if not 0 <= saved["step"] <= self.config.steps:
            raise ValueError(f"it is of step {saved['step']} of {self.config.steps}")
        self.task.step.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if self.average is not None and "average" in state:
            self.average.load(state["average"])
        self.step, self.before, self.best = saved["step"], saved["before"], saved["best"]
        # A checkpoint of an earlier version has neither, nor an average.
        self.start, collapse = saved.get("start", self.start), saved.get("collapse")
        self.collapse = Collapse(**collapse) if collapse else None

    def do(self, step: int, batch: Any) -> dict[str, Any]:
        """One step of the optimiser. Returns what is logged of it; nothing waits for the device."""
        self.share += (1 - self.share) / (self.config.steps - step + 1)
        at = self.share * self.config.steps if self.config.minutes else step
        rate = learning_rate(at, self.config.steps, self.config.optimizer.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        loss = self._backward(self.task.prepare(batch, self.fabric.device))
        norm = clip_gradients(self.module, self.config.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step
        if self.average is not None:
            self.average.update(step)
        logged = {"train/loss": loss, "gradient_norm": norm, "lr": self.config.optimizer.lr * rate}
        return logged | self.task.logged(batch)

    def _backward(self, arguments: tuple[Any, ...]) -> torch.Tensor:
        """The loss, without a graph; the gradients are in the parameters."""
        if self.config.gradient_cache:
            with self.fabric.autocast():
                return self.task.gradients(arguments, self.config.gradient_cache, self.fabric.backward)
        loss: torch.Tensor = self.module(*arguments)
        self.fabric.backward(loss)
        return loss.detach()

    def write(self, step: int, waiting: list[dict[str, Any]]) -> None:
        """Logs the steps since the last time, up to `step`.

        Raises:
            UserError: a loss or a gradient is no number.
        """
        for at, values in enumerate(waiting, step - len(waiting) + 1):
            numbers = {name: float(value) for name, value in values.items()}
            if not (math.isfinite(numbers["train/loss"]) and math.isfinite(numbers["gradient_norm"])):
                raise self._not_finite(at, numbers)
            self.log(at, numbers)
        waiting.clear()

    def _not_finite(self, step: int, numbers: Mapping[str, float]) -> UserError:
        """What to tell of a loss or a gradient that is no number."""
        self.tell("on_not_finite", step)
        loss, norm = numbers["train/loss"], numbers["gradient_norm"]
        first = f"; the first tensor with such a number is the {self.not_finite}" if self.not_finite else ""
        return UserError(
            f"the loss is {loss} and the norm of its gradient {norm} at step {step}{first}: lower --optimizer.lr or "
            "the scale of the loss, or look for broken images with `pullpush data`. "
            f"The checkpoints in {str(self.folder)!r} are from before."
        )


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
    if config.gradient_cache and config.devices > 1:
        raise UserError("the gradient cache runs in one process: leave out --gradient_cache or --devices")
    heard, monitor = [as_callback(each) for each in callbacks], Monitor()
    first: Any = [Pace()] if config.minutes else []
    watching = [FirstBadTensor(), monitor, *heard, Results(), Checkpoints(), OnCollapse(monitor)]
    listeners = [*first, Display(), LogFile(), trackers, *watching]
    settle_precision(config)
    precision: Any = "bf16-mixed" if config.precision == "bf16" else "32-true"
    try:
        fabric = Fabric(accelerator=config.device, devices=config.devices, precision=precision, callbacks=listeners)
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise UserError(
            f"--device {config.device} with --devices {config.devices} is not to be had here: {error}"
        ) from error
    fabric.launch()
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
        task = Task(config, items, fabric.global_rank, fabric.world_size)
        if last is None:
            task.start()
    except UserError:
        if not going_on and fabric.is_global_zero:
            remove_run(folder)
        raise
    say(f"{len(task.items)} items of {task.items.table['label'].nunique()} classes; run folder {folder}")
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
    task = Task(config, run.task.items, fabric.global_rank, fabric.world_size)
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
    validate_every = config.validate_every or max(1, config.steps // 8)
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


def learning_rate(step: float, steps: int, warmup: float) -> float:
    """Share of the highest rate at `step` (from 1): linear up over `warmup` of the steps, then half a cosine down."""
    rising = warmup * steps
    if step <= rising:
        return step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising + 1)))


def clip_gradients(module: nn.Module, limit: float) -> torch.Tensor:
    """Norm of all gradients, which are scaled down to `limit` where they exceed it (0: never)."""
    return torch.nn.utils.clip_grad_norm_(module.parameters(), limit or math.inf, foreach=True)
