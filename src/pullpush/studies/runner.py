"""Runs the runs of a study: each in its own folder, finished ones never again, several at a time."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.escape import printable
from pullpush.files import locked
from pullpush.progress import showing, work
from pullpush.runs.folder import LOCK, changed_options, hold, open_run
from pullpush.runs.groups import DataConfig
from pullpush.studies.plan import StudyRun
from pullpush.training.loop import make_items, read_items, train
from pullpush.training.signals import Stopped

__all__ = ["check_same", "child_of_study", "finished", "folder_of", "hold_study", "is_finished", "run_one", "run_study"]


def folder_of(out: Path, run: StudyRun) -> Path:
    """The run folder."""
    return out / "runs" / run.name


def is_finished(folder: Path) -> bool:
    """Whether the run has ended: metrics.json is written last."""
    return (folder / "metrics.json").exists()


def finished(runs: Sequence[StudyRun], out: Path) -> list[StudyRun]:
    """Those of the runs that have ended."""
    return [run for run in runs if is_finished(folder_of(out, run))]


def hold_study(out: Path) -> AbstractContextManager[None]:
    """The one process that runs a study or a search in a folder; the lock ends with it, also when it is killed.

    Raises:
        UserError: another process does.
    """
    busy = f"{str(out)!r} is being run by process {{holder}}: wait until that has ended, or stop it"
    return locked(out / LOCK, busy, "or choose another --out")


def run_study(runs: Sequence[StudyRun], out: Path, jobs: int = 1) -> list[str]:
    """Runs what is not finished yet; a killed study goes on where it was.

    Args:
        runs: with different names.
        out: folder of the study; the runs go to out/runs/NAME.
        jobs: processes; each takes its share of the cores.

    Returns:
        A sentence for each run that failed; the others are finished.

    Raises:
        UserError: a run folder that was made with other options; another process runs the study; all runs failed.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what was running is saved.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs} must be 1 or more")
    for run in runs:
        check_same(run, folder_of(out, run))
    with hold_study(out):
        failed = _run_waiting(runs, out, jobs)
    if failed and len(failed) == len(runs):
        raise UserError(f"no run of the study came to its end. The first: {failed[0]}")
    return failed


def _run_waiting(runs: Sequence[StudyRun], out: Path, jobs: int) -> list[str]:
    """Sentences on those that failed; a bar over runs on a terminal, a line a run elsewhere."""
    waiting = [run for run in runs if not is_finished(folder_of(out, run))]
    done, terminal = len(runs) - len(waiting), sys.stderr.isatty()
    failed: list[str] = []
    if done:
        print(f"{done} of {len(runs)} runs are finished already", file=sys.stderr)
    with showing(terminal), work("training", len(runs), "runs", done) as current:
        for run, error in _results(waiting, out, min(jobs, len(waiting))):
            current.advance(note=run.name)
            if error:
                failed.append(f"{run.name}: {error}")
            if error or not terminal:
                sentence = f"{current.done}/{len(runs)} {run.name}{': ' + error if error else ''}"
                print(printable(sentence), file=sys.stderr)
    return failed


def _results(waiting: list[StudyRun], out: Path, jobs: int) -> Iterator[tuple[StudyRun, str]]:
    """Runs with what went wrong (empty: nothing), as they end."""
    if jobs <= 1:
        for run in waiting:
            yield run, _guarded(run, out)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    before = signal.signal(signal.SIGTERM, _interrupt)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=child_of_study, initargs=(threads,))
    try:
        futures = {pool.submit(_in_child, run, out): run for run in waiting}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise UserError("a process of the study was ended; the same command goes on with what is left") from error
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()  # the run that it is at saves its state first
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        pool.shutdown(cancel_futures=True)


def child_of_study(threads: int) -> None:
    """Begins a process of a pool: so many threads, and an end with the process that made the pool, also when that is
    killed."""
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A study that is killed takes its processes along: else they would hold their run folders to the end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _in_child(run: StudyRun, out: Path) -> str:
    try:
        return _guarded(run, out)
    except KeyboardInterrupt:
        os._exit(130)  # saved; a worker that goes on would take the next run


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _guarded(run: StudyRun, out: Path) -> str:
    """The message of what the user can mend; only this crosses the border between processes."""
    try:
        run_one(run, out)
    except UserError as error:
        return str(error)
    except Stopped:
        raise KeyboardInterrupt from None
    return ""


def run_one(run: StudyRun, out: Path) -> Path:
    """Trains one run, from its last checkpoint if it has one.

    Raises:
        UserError: as of `training.train`.
        Stopped: Ctrl-C or SIGTERM; the state is saved first.
    """
    folder = folder_of(out, run)
    last = folder / "checkpoints" / "last.pt"
    resume = folder if run.resumable and last.exists() else None
    if folder.exists() and resume is None:
        with hold(folder):
            shutil.rmtree(folder)  # a run of this study without an end: nothing of it can be used
    config = open_run(folder) if resume else run.config
    config.out = str(folder)
    items = _items(json.dumps(asdict(config.data)), config.seed)
    recorders = [recorder(folder, config) for recorder in run.recorders]
    try:
        return train(config, resume=resume, items=items, callbacks=recorders, quiet=True)
    finally:
        for recorder in recorders:
            recorder.close()


# Reading and checking a data set takes longer than a short run, so a process does it once.
@lru_cache(maxsize=2)
def _all_items(data: str) -> Items:
    return read_items(_data(data), _nobody)


@lru_cache(maxsize=8)
def _items(data: str, seed: int) -> Items:
    return make_items(_data(data), seed, _nobody, _all_items(data))


def _data(text: str) -> DataConfig:
    return DataConfig(**json.loads(text))


def _nobody(sentence: str) -> None:
    """Notes of the reader stand in items.parquet."""


def check_same(run: StudyRun, folder: Path) -> None:
    """Raises `UserError` where the folder holds a run with other options than `run`, or whose options can't be read."""
    path = folder / "config.yaml"
    if not path.exists():
        return
    try:
        changed = changed_options(run.config, folder)
    except UserError as error:
        raise UserError(
            f"the options of a run, {str(path)!r}, can't be used ({error}): remove {str(folder)!r}, and the same "
            "command trains that run again"
        ) from error
    if changed:
        raise UserError(
            f"{str(folder)!r} is a run of an earlier study with another --{', --'.join(changed)}: choose another "
            "--out, or repeat the earlier command"
        )
