"""A run under way: a step of it, what it says, and what it goes on from."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from pullpush.errors import UserError
from pullpush.runs.config import Config
from pullpush.training.averages import MovingAverage
from pullpush.training.collapse import Collapse
from pullpush.training.task import Task

__all__ = ["Run", "clip_gradients", "learning_rate"]


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
    task: Task
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
        try:
            loss = self._backward(self.task.prepare(batch, self.fabric.device))
        except (RuntimeError, MemoryError) as error:
            if not _is_too_large(error):
                raise
            raise self._too_large(step) from error
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

    def _too_large(self, step: int) -> UserError:
        """What to tell of a step that does not fit into memory."""
        halved = f"--batch.classes {max(1, self.task.sampler.classes // 2)}"
        saving = "" if self.config.gradient_cache else " or --gradient_cache 32,"
        return UserError(
            f"the memory is too small for a batch at step {step}: train with {halved},{saving} "
            "a smaller --encoder.size, or --tune head"
        )

    def _not_finite(self, step: int, numbers: Mapping[str, float]) -> UserError:
        """What to tell of a loss or a gradient that is no number."""
        self.tell("on_not_finite", step)
        loss, norm = numbers["train/loss"], numbers["gradient_norm"]
        first = f"; the first tensor with such a number is the {self.not_finite}" if self.not_finite else ""
        return UserError(
            f"the loss is {loss} and the norm of its gradient {norm} at step {step}{first}; the checkpoints in "
            f"{str(self.folder)!r} are from before. Look for broken images with `pullpush data`, lower the scale of "
            f"the loss, or train again with --optimizer.lr {self.config.optimizer.lr / 10:g}"
        )


def _is_too_large(error: BaseException) -> bool:
    """Whether memory is at its end, of a GPU or of the machine."""
    out = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return out or "can't allocate memory" in str(error)


def learning_rate(step: float, steps: int, warmup: float) -> float:
    """Share of the highest rate at `step` (from 1): linear up over `warmup` of the steps, then half a cosine down."""
    rising = warmup * steps
    if step <= rising:
        return step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising + 1)))


def clip_gradients(module: nn.Module, limit: float) -> torch.Tensor:
    """Norm of all gradients, which are scaled down to `limit` where they exceed it (0: never)."""
    return torch.nn.utils.clip_grad_norm_(module.parameters(), limit or math.inf, foreach=True)
