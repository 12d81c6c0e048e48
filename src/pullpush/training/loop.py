"""The training loop, from top to bottom."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from pullpush.bounds import check
from pullpush.data.items import Items
from pullpush.data.splits import kind_of_classes
from pullpush.errors import UserError
from pullpush.files import damaged
from pullpush.runs.checkpoint import LAST, cure_of, load_checkpoint, save_checkpoint
from pullpush.runs.config import Config
from pullpush.runs.folder import (
    open_run,
    remove_run,
    save_classes_seen,
    save_embeddings,
    save_metrics,
)
from pullpush.runs.log import RunLog
from pullpush.runs.neighbours import save_neighbours
from pullpush.runs.options import config_from
from pullpush.training.allocator import keep_freed_memory
from pullpush.training.anomaly import Watch
from pullpush.training.display import Display
from pullpush.training.images import Embedded, ImageTask
from pullpush.training.launch import flushed_denormals, held_folder, launch
from pullpush.training.monitor import Monitor
from pullpush.training.setup import make_items
from pullpush.training.signals import Stopped, StopRequest
from pullpush.training.step import step_in_chunks
from pullpush.training.texts import ImageTextTask

__all__ = ["train"]

# Steps between looks at the loss: a look waits for the device.
LOOK_EVERY = 10
TASKS: dict[str, type[ImageTask] | type[ImageTextTask]] = {"image": ImageTask, "image-text": ImageTextTask}


@dataclass
class Run:
    """A run under way. `saved` goes into checkpoints as it is."""

    config: Config
    folder: Path
    task: ImageTask | ImageTextTask
    fabric: Fabric
    display: Display
    module: nn.Module
    optimizer: torch.optim.Optimizer
    log: RunLog
    monitor: Monitor
    since: float
    saved: dict[str, Any] = field(
        default_factory=lambda: {
            "step": 0,
            "seconds": 0.0,
            "before": {},
            "best": {"step": 0, "score": -1.0, "metrics": {}},
        }
    )


Callback = Callable[[Run, int], None]


def train(
    config: Config | None = None,
    *,
    resume: str | Path | None = None,
    items: Items | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
    **options: Any,
) -> Path:
    """Trains, evaluates on classes that were not trained on, and leaves a run folder.

        train(data="emoji", loss={"name": "circle", "margin": 0.4}, steps=200, out="runs/circle")

    Args:
        config: of the run, which says everything, is copied, and stays as it is; or give its options by name.
        resume: a run folder to continue from its last checkpoint; it ends as the uninterrupted run would have. So does
            `out` with the options of an unfinished run.
        items: what `config.data` and the seed stand for, where it was read before (studies read it once).
        callbacks: called after each step with the run and the number of the step.
        quiet: show nothing while it goes.
        options: of the run, nested or dotted, where no `config` is given.

    Returns:
        The run folder.

    Raises:
        UserError: wrong options or data, a folder of another run or of a finished one, or in which another process
            trains, a loss that is no number, a full disk.
        Stopped: Ctrl-C or SIGTERM; the state is saved first.
    """
    keep_freed_memory()
    if config is not None and options:
        raise UserError(f"a Config says everything: set {', '.join(options)} in it")
    given = options if config is None else check("config", config, Config).values()
    # A copy, checked again: the caller's is not changed, and may have been since it was made.
    resume = Path(resume) if resume else None
    config = open_run(resume) if resume else config_from(given)
    if config.gradient_cache and config.devices > 1:
        raise UserError("the gradient cache runs in one process: leave --gradient_cache or --devices away")
    fabric = launch(config)
    fabric.seed_everything(config.seed, verbose=False)
    display = Display(config.steps, quiet=quiet or not fabric.is_global_zero)
    with display, flushed_denormals(), held_folder(fabric, config, resume) as (folder, going_on):
        run = _begin(config, fabric, display, folder, going_on, items)
        if resume and not going_on:
            display.say("no checkpoint was written yet: the run begins at its first step")
        _fit(run, callbacks)
        run.log.close()
        if fabric.is_global_zero:
            _finish(run)
        fabric.barrier()
    return run.folder


def _begin(config: Config, fabric: Fabric, display: Display, folder: Path, going_on: bool, items: Items | None) -> Run:
    """Everything up to the first step; of a run that goes on, up to the first step that is not done yet."""
    since = time.perf_counter()
    last = folder / "checkpoints" / "last.pt"
    state = load_checkpoint(last, LAST) if going_on else None
    try:
        items = make_items(config.data, config.seed, display.say) if items is None else items
        task = TASKS[config.task](config, items, fabric.global_rank, fabric.world_size)
    except UserError:
        if not going_on and fabric.is_global_zero:
            remove_run(folder)
        raise
    items = task.items
    display.say(f"{len(items)} items of {items.table['label'].nunique()} classes; run folder {folder}")
    for note in task.notes:
        display.say(note)
    module, optimizer = fabric.setup(task.step, torch.optim.AdamW(task.parameter_groups(), fused=True))
    done, quiet = state["saved"]["step"] if state else 0, not fabric.is_global_zero
    log = RunLog(folder, done, config.tensorboard, quiet=quiet)
    monitor = Monitor(folder, config, task, log, display, done=done, quiet=quiet)
    run = Run(config, folder, task, fabric, display, module, optimizer, log, monitor, since)
    if state:
        _restore(run, state, last)
        run.since -= run.saved["seconds"]
        display.say(f"continuing after step {run.saved['step']}")
        return run
    if fabric.is_global_zero:
        task.save_tables(folder)
        monitor.start(task)
        run.saved["before"] = _test(run, "before")
    # What was drawn so far hangs on what was cached; what training draws must not.
    fabric.seed_everything(config.seed, verbose=False)
    _checkpoint(run, 0)
    return run


def _restore(run: Run, state: dict[str, Any], path: Path) -> None:
    """Puts back what the checkpoint `path` holds.

    Raises:
        UserError: it is of another run.
    """
    if not 0 <= state["saved"]["step"] <= run.config.steps:
        raise damaged(path, f"it is of step {state['saved']['step']} of {run.config.steps}", cure_of(path))
    _load_weights(run, state, path)
    try:
        run.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error, cure_of(path)) from error
    run.saved = state["saved"]


def _load_weights(run: Run, state: dict[str, Any], path: Path) -> None:
    try:
        run.task.step.load_state_dict(state["module"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise damaged(path, f"it is of another model ({error})", cure_of(path)) from error


def _fit(run: Run, callbacks: Sequence[Callback] = ()) -> None:
    config, done = run.config, run.saved["step"]
    validate_every = config.validate_every or max(1, config.steps // 8)
    batches = run.task.batches(done)
    waiting: list[dict[str, Any]] = []
    with StopRequest() as stop, run.display.training(done):
        for step in range(done + 1, config.steps + 1):
            waiting.append(_step(run, step, next(batches)))
            for callback in callbacks:
                callback(run, step)

            last, stopped = step == config.steps, stop.number is not None
            validate = last or step % validate_every == 0
            keep = last or stopped or step % config.checkpoint_every == 0
            if step == 1 or validate or keep or step % LOOK_EVERY == 0:
                _look(run, step, waiting)
            if validate:
                _validate(run, step)
            if step == 1 or validate or step % LOOK_EVERY == 0:
                run.monitor.look(step, run.optimizer, validated=validate)
            if keep:
                _checkpoint(run, step)
            if stop.number is not None and not last:
                raise Stopped(
                    f"stopped after step {step}, saved. Go on with: pullpush train --resume {run.folder}", stop.number
                )


def _step(run: Run, step: int, batch: Any) -> dict[str, Any]:
    """One step of the optimiser. Returns what is logged of it; nothing waits for the device."""
    rate = learning_rate(step, run.config.steps, run.config.optimizer.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * rate
    run.task.fill_memory(run.fabric.device)
    loss = _backward(run, run.task.arguments(batch, run.fabric.device))
    norm = clip_gradients(run.module, run.config.optimizer.clip)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    logged = {"train/loss": loss, "gradient_norm": norm, "lr": run.config.optimizer.lr * rate}
    return logged | run.task.logged(batch)


def _backward(run: Run, arguments: Sequence[Any]) -> torch.Tensor:
    """The loss, without a graph; the gradients are in the parameters."""
    if run.config.gradient_cache:
        with run.fabric.autocast():
            return step_in_chunks(run.task.step, arguments, run.config.gradient_cache, run.fabric.backward)
    loss: torch.Tensor = run.module(*arguments)
    run.fabric.backward(loss)
    return loss.detach()


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Share of the highest rate at `step` (from 1): linear up over `warmup` of the steps, then half a cosine down."""
    rising = warmup * steps
    if step <= rising:
        return step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising + 1)))


def clip_gradients(module: nn.Module, limit: float) -> torch.Tensor:
    """Norm of all gradients, which are scaled down to `limit` where they exceed it (0: never)."""
    return torch.nn.utils.clip_grad_norm_(module.parameters(), limit or math.inf, foreach=True)


def _look(run: Run, step: int, waiting: list[dict[str, Any]]) -> None:
    """Writes down the steps since the last look. Their loss must be a number."""
    first = step - len(waiting) + 1
    for at, values in enumerate(waiting, first):
        numbers = {name: float(value) for name, value in values.items()}
        if not (math.isfinite(numbers["train/loss"]) and math.isfinite(numbers["gradient_norm"])):
            raise _not_finite(run, at, numbers)
        run.monitor.wrote(at, numbers)
        run.log.write(at, numbers)
    run.display.advance(step, numbers["train/loss"])
    waiting.clear()


def _not_finite(run: Run, step: int, numbers: dict[str, float]) -> UserError:
    """What to tell of a loss or a gradient that is no number."""
    loss, norm = numbers["train/loss"], numbers["gradient_norm"]
    found = _first_bad_tensor(run, step) if run.fabric.world_size == 1 else None
    run.monitor.not_finite(step, found)
    return UserError(
        f"the loss is {loss} and the norm of its gradient {norm} at step {step}"
        f"{f'; the first tensor with such a number is the {found}' if found else ''}: lower --optimizer.lr or the "
        f"scale of the loss, or look for broken images with `pullpush data`. The checkpoints in {str(run.folder)!r} "
        "are from before."
    )


def _first_bad_tensor(run: Run, until: int) -> str | None:
    """Does the steps since the last checkpoint again, which end the same, and looks at every tensor."""
    last = run.folder / "checkpoints" / "last.pt"
    _restore(run, load_checkpoint(last, LAST), last)
    done = run.saved["step"]
    batches = run.task.batches(done)
    with Watch(run.task.step) as watch:
        for step in range(done + 1, until + 1):
            _step(run, step, next(batches))
            watch.weights()
            if watch.found:
                return f"{watch.found} at step {step}"
    return None


def _validate(run: Run, step: int) -> None:
    """Metrics on the validation classes; the best weights so far are kept."""
    metrics = {f"validation/{name}": value for name, value in run.task.validate(run.fabric.device).items()}
    if not metrics:
        return
    run.display.evaluated(step, metrics, run.task.followed)
    run.monitor.wrote(step, metrics)
    run.log.write(step, metrics)
    score = metrics[f"validation/{run.task.chosen_by}"]
    if score > run.saved["best"]["score"]:
        run.saved["best"] = {"step": step, "score": score, "metrics": metrics}
        if run.fabric.is_global_zero:
            save_checkpoint(
                run.folder / "checkpoints" / "best.pt", {"step": step, "module": run.task.step.state_dict()}
            )


def _checkpoint(run: Run, step: int) -> None:
    run.saved |= {"step": step, "seconds": time.perf_counter() - run.since}
    if run.fabric.is_global_zero:
        state = {
            "saved": run.saved,
            "module": run.task.step.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        save_checkpoint(run.folder / "checkpoints" / "last.pt", state)


def _test(run: Run, when: str) -> dict[str, float]:
    """Embeds the test items, keeps the embeddings and what they find, and gives their metrics."""
    if not len(run.task.splits["test"]):
        return {}
    embedded = run.task.embed("test", run.fabric.device)
    _save(run, f"test-{when}", embedded)
    found = run.task.evaluate("test", embedded)
    save_neighbours(run.folder, f"test-{when}", found)
    return found.metrics


def _save(run: Run, name: str, embedded: Embedded) -> None:
    """The embeddings of each side; those of images carry the bare name."""
    for side, embeddings in embedded.items():
        save_embeddings(run.folder, name if side == "image" else f"{name}-{side}", embeddings)


def _finish(run: Run) -> None:
    """The best weights: tested, saved as a model, written down."""
    best = run.saved["best"]
    if best["step"]:
        path = run.folder / "checkpoints" / "best.pt"
        _load_weights(run, load_checkpoint(path, {"module": {}}), path)
    save_classes_seen(run.folder, run.task.classes_seen(run.config.steps))
    for split in ("train", "validation"):
        if len(run.task.splits[split]):
            _save(run, f"{split}-after", run.task.embed(split, run.fabric.device))
    after = _test(run, "after")
    run.task.save_model(str(run.folder / "model"))
    validation = {name.removeprefix("validation/"): value for name, value in best["metrics"].items()}
    metrics = {
        "data": run.config.data.source,
        "loss": run.config.loss.name,
        "steps": run.config.steps,
        "best_step": best["step"],
        "seconds": round(time.perf_counter() - run.since, 1),
        "test_classes": kind_of_classes(run.task.items, "test") if after else "none",
        "test": {"before": run.saved["before"], "after": after},
        "validation": validation,
    }
    save_metrics(run.folder, metrics)
    if not after:
        run.display.say("no test: all classes are trained on (--data.test 0)")
        return
    of = "seen in training" if metrics["test_classes"] == "seen" else "that were never trained on"
    for name in run.task.shown:
        before = run.saved["before"][name]
        worse = after[name] < before
        digits = 3 if not worse or f"{before:.3f}" != f"{after[name]:.3f}" else 6
        run.display.say(
            f"test {name}: {before:.{digits}f} before, {after[name]:.{digits}f} after, on classes {of}"
            + (": worse than untrained" if worse else ""),
            style="bold red" if worse else "",
        )
    run.monitor.ended(run.config.steps, metrics["test"])
