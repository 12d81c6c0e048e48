"""What the training loop costs over the bare step of the same model: `loop/step/64px/bare`, and, on large photographs
that do not fit the cache, `loop/step/224px photographs/bare`. The bare step has its batch at hand.

Two processes decode; where there are no more than two cores, they compete with the step, and the ratio says what that
costs. `loop/step/224px photographs, a core free/bare` says what the loop itself costs: one process decodes, and step
and bare step take one thread. Photographs are JPEGs made large from those in the folder `$PULLPUSH_PHOTOS`, else drawn.
"""

import contextlib
import os
import statistics
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import result
from pullpush.images import find_images, open_rgb
from pullpush.runs.config import Config
from pullpush.runs.options import config_from
from pullpush.training.loop import make_items, train
from pullpush.training.run import clip_gradients
from pullpush.training.task import Task

LONG = {"steps": 100_000, "validate_every": 100_000, "checkpoint_every": 100_000, "report": False, "tensorboard": False}
CLASSES, EACH, SIZE = 16, 4, (1600, 1200)


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
    """Medians over blocks, in ms a step."""
    with tempfile.TemporaryDirectory() as folder:
        photos = photographs(Path(folder) / "photos")
        small = {"data": {"source": "emoji", "check": False}}
        rows = [_measured("loop/step/64px/bare", small, Path(folder) / "small", 5)]
        threads = torch.get_num_threads()
        for name, workers, used in (("", 2, threads), (", a core free", 1, 1)):
            large = {
                "data": {"source": str(photos), "cache": "no", "workers": workers},
                "encoder": {"size": 224},
                "batch": {"classes": 6, "samples": 4},
            }
            torch.set_num_threads(used)
            rows.append(
                _measured(f"loop/step/224px photographs{name}/bare", large, Path(folder) / f"{workers}", 8, blocks=5)
            )
        torch.set_num_threads(threads)
        return rows


def photographs(folder: Path) -> Path:
    """Folders of large JPEGs, a class each: crops of one photograph."""
    found = find_images(os.environ.get("PULLPUSH_PHOTOS", folder))[0]
    draw = np.random.default_rng(0)
    for number, photo in zip(range(CLASSES), cycle(found or [None]), strict=False):
        (folder / f"{number:02}").mkdir(parents=True)
        whole = open_rgb(photo) if photo else _drawn(draw)
        for each in range(EACH):
            left, top = draw.uniform(0, 0.2, 2) * whole.size
            box = (left, top, left + 0.8 * whole.width, top + 0.8 * whole.height)
            pixels = np.asarray(whole.resize(SIZE, Image.Resampling.BICUBIC, box=box), np.float32)
            grain = draw.normal(0, 4, (*pixels.shape[:2], 1))
            image = Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))
            image.save(folder / f"{number:02}" / f"{each}.jpg", quality=90)
    return folder


def _drawn(draw: np.random.Generator) -> Image.Image:
    """Detail at every scale, weaker the finer it is, as in photographs."""
    total = np.zeros((*SIZE[::-1], 3), np.float32)
    for cells in (2, 4, 8, 16, 32, 64, 128, 256):
        noise = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(noise.resize(SIZE, Image.Resampling.BICUBIC), np.float32) / cells
    return Image.fromarray((255 * (total - total.min()) / np.ptp(total)).astype(np.uint8))


def _measured(name: str, options: dict[str, Any], folder: Path, block: int, blocks: int = 10) -> dict[str, Any]:
    """Blocks of loop steps and bare steps alternate in one process. While bare steps go on nothing is decoded: what is
    taken ahead is ready after the first of them."""
    config = config_from({**options, **LONG, "out": str(folder)})
    bare = _Bare(config)
    looped: list[float] = []
    alone: list[float] = []
    since = 0.0

    def between(run: Any, step: int) -> None:
        nonlocal since
        if step % block:
            return
        now = time.perf_counter()
        if step > block:  # the first block warms up
            looped.append((now - since) / block)
        bare()
        start = time.perf_counter()
        for _ in range(block):
            bare()
        if step > block:
            alone.append((time.perf_counter() - start) / block)
        if len(looped) == blocks:
            raise _Enough
        since = time.perf_counter()

    with contextlib.suppress(_Enough):
        train(config, callbacks=(between,), quiet=True)
    return result(name, statistics.median(looped) * 1e3, statistics.median(alone) * 1e3, "ms")
