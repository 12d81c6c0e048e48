"""How the CPU computes while a run goes."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["flushed_denormals", "keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Tells glibc not to hand large blocks back to the system.

    It does so after each tensor by default, and the next step faults every page in again: a fifth of a step on the CPU.
    Elsewhere than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Denormal numbers make a CPU step several times slower; whoever called gets them back."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
