"""How the benchmarks measure: two sides interleaved in one run, and peak memory in a process of its own."""

import gc
import multiprocessing
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil

LINUX = Path("/proc/self")
Work = Callable[[], object]


def result(name: str, ours: float, other: float, unit: str) -> dict[str, Any]:
    """One row of `results.json`; ratio = other / ours, so more than 1 means that we are ahead."""
    return {"name": name, "ours": ours, "other": other, "unit": unit, "ratio": other / ours}


def seconds(work: Work) -> float:
    """Wall-clock time of one call."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(ours: Work, other: Work, repeats: int = 5, warm: int = 1) -> tuple[float, float]:
    """Median seconds of both. They alternate, and who goes first alternates, so that what else the machine does hits
    both alike; `warm` rounds come first and are not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(-warm, repeats):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            taken = seconds((ours, other)[side])
            if turn >= 0:
                times[side].append(taken)
    return statistics.median(times[0]), statistics.median(times[1])


def peak_bytes(setup: Callable[..., Any], work: Callable[[Any], object], *args: Any) -> int:
    """Bytes by which `work(setup(*args))` raises the memory of a fresh process above what `setup` left in use.

    Both functions must stand at the top of a module. On Linux the peak is that of the work alone; elsewhere a setup
    whose own peak lies far above what it leaves can only make the figure too large.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, setup, work, args).result()


def _peak(setup: Callable[..., Any], work: Callable[[Any], object], args: tuple[Any, ...]) -> int:
    state = setup(*args)
    gc.collect()
    before = psutil.Process().memory_info().rss
    if LINUX.exists():
        (LINUX / "clear_refs").write_text("5")  # forgets the peak so far
    work(state)
    return _peak_so_far() - before


def _peak_so_far() -> int:
    """Not ru_maxrss on Linux: that begins with the memory of the process that started this one."""
    if LINUX.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", (LINUX / "status").read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
