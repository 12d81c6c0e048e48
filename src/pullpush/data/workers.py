"""The same function on many chunks of rows, in worker processes; and what the machine has for it."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil
import torch
from torch.utils.data import DataLoader, Dataset

from pullpush.errors import UserError
from pullpush.progress import counted

__all__ = ["CHUNK", "Chunk", "Result", "available_bytes", "by_chunks", "cores", "in_workers"]

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")
CHUNK = 64
# Work of fewer seconds is done before processes have started.
WORTH = 1.0
# More processes than this read faster than a model takes it.
MOST = 16
# Where Linux says how much memory a container may take (versions 2 and 1 of its control groups).
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class _Calls(Dataset[Result | UserError], Generic[Chunk, Result]):
    def __init__(self, function: Callable[[Chunk], Result]) -> None:
        self.function = function

    def __getitem__(self, chunk: Any) -> Result | UserError:
        # a DataLoader would wrap the traceback into the message
        try:
            return self.function(chunk)
        except UserError as error:
            return error


def in_workers(
    function: Callable[[Chunk], Result], chunks: Iterable[Chunk], workers: int, pinned: bool = False
) -> Iterator[Result]:
    """`function` of each chunk, in their order, computed ahead by `workers` processes; by this one where there are 0.

    The results are the same for any number of workers, and no random numbers are drawn.

    Args:
        function: picklable; its UserErrors are raised here.
        chunks: may be without end; of them two for each process are taken ahead.
        workers: processes.
        pinned: tensors come in memory from which a GPU copies while it computes.
    """
    own = torch.Generator()  # the loader would draw its base seed from the global one
    calls: Any = _Calls(function)
    loader: Any = DataLoader(
        calls, sampler=chunks, batch_size=None, num_workers=workers, generator=own, pin_memory=pinned
    )
    for result in loader:
        if isinstance(result, UserError):
            raise result
        yield result


def by_chunks(function: Callable[[range], Result], count: int, what: str) -> Iterator[Result]:
    """`function` of each chunk of the rows 0 to `count` - 1, in order.

    As many processes as there are cores, none where the first chunk says that the rest takes under a second: Pillow
    holds Python's lock for most of the time of a small image, so threads would wait for each other. `what` is said of
    it while it goes on (`progress.work`). `function` must be picklable; its UserErrors are raised here.
    """
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]

    def results() -> Iterator[Result]:
        since = time.perf_counter()
        yield from in_workers(function, chunks[:1], 0)
        worth = (time.perf_counter() - since) * len(chunks[1:]) > WORTH
        yield from in_workers(function, chunks[1:], cores() if worth else 0)

    for _, result in counted(zip(chunks, results(), strict=True), what, count, each=lambda pair: len(pair[0])):
        yield result


def cores() -> int:
    """Processor cores that this process may use, 16 at most."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MOST)


def available_bytes() -> int:
    """Memory that this process may still take before the system swaps, or a container's limit ends it."""
    free = int(psutil.virtual_memory().available)
    for path in LIMITS:
        limit = path.read_text("utf-8").strip() if path.exists() else "max"
        if limit.isdigit():  # "max" is none
            free = min(free, max(0, int(limit) - int(psutil.Process().memory_info().rss)))
    return free
