"""What the training loop costs over the bare step of the same model: `loop/step/64px/bare`."""

import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import result
from pullpush.runs.config import Config
from pullpush.runs.options import config_from
from pullpush.training.loop import clip_gradients, make_items, train
from pullpush.training.task import Task

BLOCK, BLOCKS = 5, 10


class _Enough(Exception):
    """Ends the run once all blocks are measured."""


class _Bare:
    """Forward, loss, backward and optimiser step on one preloaded batch, nothing else."""

    def __init__(self, config: Config) -> None:
        self.task = Task(config, make_items(config.data, config.seed, lambda sentence: None))
        self.step = self.task.step
        self.optimizer = torch.optim.AdamW(self.task.parameter_groups(), fused=True)
        self.batch = self.task.prepare(next(self.task.batches(0)), torch.device("cpu"))
        self.clip = config.optimizer.clip

    def __call__(self) -> None:
        self.step(*self.batch).backward()
        clip_gradients(self.step, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def run() -> list[dict[str, Any]]:
    """Blocks of loop steps and bare steps alternate in one process; medians over the blocks, in ms a step."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_from(
            {
                "data": {"source": "emoji", "check": False},
                "out": str(Path(folder) / "run"),
                "steps": 100_000,
                "validate_every": 100_000,
                "checkpoint_every": 100_000,
                "report": False,
            }
        )
        bare = _Bare(config)
        looped: list[float] = []
        alone: list[float] = []
        since = 0.0

        def between(run: Any, step: int) -> None:
            nonlocal since
            if step % BLOCK:
                return
            now = time.perf_counter()
            if step > BLOCK:  # the first block warms up
                looped.append((now - since) / BLOCK)
            start = time.perf_counter()
            for _ in range(BLOCK):
                bare()
            if step > BLOCK:
                alone.append((time.perf_counter() - start) / BLOCK)
            if len(looped) == BLOCKS:
                raise _Enough
            since = time.perf_counter()

        with contextlib.suppress(_Enough):
            train(config, callbacks=(between,), quiet=True)
    ours, other = statistics.median(looped) * 1e3, statistics.median(alone) * 1e3
    return [result("loop/step/64px/bare", ours, other, "ms")]
