"""Processes that are killed before any of their writes: forked, so that nothing but one thread may be at work."""

import os
import signal
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

__all__ = ["WRITES", "killed_before", "spread"]

WRITES: tuple[tuple[object, str], ...] = ((os, "fsync"), (os, "replace"), (Path, "mkdir"), (Path, "rename"))


def killed_before(
    step: int,
    work: Callable[[], object],
    places: Iterable[tuple[object, str]] = WRITES,
    listen: Callable[[Callable[..., None]], None] = lambda count: None,
) -> int | None:
    """Runs `work` in a forked child that is killed (SIGKILL) before call number `step`, from 1, of what is in `places`.

    Args:
        step: 0 for never.
        work: a failure of it is one of the test.
        places: owners and names of the functions that are counted.
        listen: called in the child with what must be called for other events that count.

    Returns:
        How many calls there were; None where the child was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **options: object) -> object:
                count()
                return function(*args, **options)

            return call

        try:
            # Threads of a pool are not forked: a matrix product would wait for them for ever.
            torch.set_num_threads(1)
            os.fsync = lambda descriptor: None  # a kill takes nothing that was written; only a power cut does
            for owner, name in places:
                setattr(owner, name, counted(getattr(owner, name)))
            listen(count)
            work()
            os.write(writing, str(calls).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    status = os.waitpid(child, 0)[1]
    with os.fdopen(reading) as told:
        calls_told = told.read()
    assert status == (0 if calls_told else signal.SIGKILL), (step, status)
    return int(calls_told) if calls_told else None


def spread(calls: int | None, kills: int) -> list[int]:
    """`kills` steps from the first call to the last, or all where `kills` is 0."""
    assert calls is not None
    assert calls >= kills
    return [1 + round(k * (calls - 1) / (kills - 1)) for k in range(kills)] if kills else list(range(1, calls + 1))
