"""The lab: settings x data sets x seeds at equal budget, ours beside the loops of PyTorch Metric Learning (PML).

    python benchmarks/lab.py --help

`lab_settings.py` holds data sets and settings, `lab_runs.py` a run, `lab_pml.py` PML's loop, `lab_table.py` the tables
and the page. Results are lines of a file, a line a run; docs/lab.md tells what is in it.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from fnmatch import fnmatch
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)] * (str(HERE.parent) not in sys.path)

from benchmarks.lab_runs import Run, measured, packed  # noqa: E402
from benchmarks.lab_settings import QUICK, SETS, SETTINGS, DataSet  # noqa: E402
from benchmarks.lab_table import write_docs, write_page  # noqa: E402
from pullpush.bounds import Count, Pixels, Seed  # noqa: E402
from pullpush.errors import UserError  # noqa: E402
from pullpush.escape import printable  # noqa: E402
from pullpush.files import Fields, locked, read_jsonl  # noqa: E402
from pullpush.names import look_up  # noqa: E402
from pullpush.progress import duration, showing, work  # noqa: E402
from pullpush.studies.runner import child_of_study  # noqa: E402
from pullpush.words import call  # noqa: E402

PROG = "python benchmarks/lab.py"
FIELDS: Fields = {
    **{"set": str, "setting": str, "seed": int, "key": str, "budget": str, "seconds": float},
    **{"validation": {"recall@1": float, "map@r": float}, "test": {"recall@1": float, "map@r": float}},
}


def lab(
    *,
    sets: Sequence[str] = (),
    settings: Sequence[str] = (),
    seeds: Count = 4,
    seed: Seed = 1,
    steps: Count = 100,
    size: Pixels = 40,
    only: str = "",
    jobs: Count = 2,
    device: Literal["cpu", "cuda"] = "cpu",
    list: bool = False,
    table: bool = False,
    quick: bool = False,
    results: str = "benchmarks/lab.jsonl",
    out: str = "runs/lab",
) -> int:
    """Runs what is missing of settings x data sets x seeds, and writes the tables and the page.

    Each run that has ended is a line of the results. The same command goes on after it was stopped or killed; another
    seed, setting or data set runs what is missing. A run whose options or defaults changed is another run.

    Args:
        sets: data sets of the lab, or a folder or manifest of yours; all of the lab's.
        settings: of the lab, by name or pattern such as pml-*; all.
        seeds: how many.
        seed: the first one.
        steps: of the optimiser, of each run.
        size: side of the images in pixels.
        only: runs whose SET/SETTING/SEED matches this pattern, such as emoji/*/1.
        jobs: runs at a time, each on one core.
        device: where they train; all jobs share a GPU.
        list: say which runs are done and which are missing, and run nothing.
        table: make page and docs/lab.md of the results again, and run nothing.
        quick: see in a minute that it works: few emoji, two settings, 8 steps, results in OUT alone.
        results: where the lines are.
        out: folder of the page, the packed data, and of the runs while they go.

    Examples:
        make lab
        python benchmarks/lab.py --sets emoji,glyphs --settings default,contrastive,pml-* --seeds 4
        python benchmarks/lab.py --sets photos/ --settings default,circle --seeds 2 --results mine.jsonl
        python benchmarks/lab.py --only 'emoji/*/1' --list
        python benchmarks/lab.py --table
    """
    folder, store = Path(out), Path(results)
    if quick:
        seeds, steps, folder = 1, 8, folder / "quick"
        store, settings = folder / "results.jsonl", settings or ("default", "pml-contrastive")
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if table:
        return tell(store, folder)
    data = {"quick": QUICK} if quick else data_sets(sets)
    options = settings_named(settings)
    with locked(folder / ".lock", f"{out!r} is in use by process {{holder}}: wait until that has ended, or stop it"):
        there = [name for name in data if at_hand(name, data[name], size, folder)]
        runs = [
            Run(name, data[name], setting, options[setting], number, steps, size, folder, device)
            for number, name, setting in product(range(seed, seed + seeds), there, options)
        ]
        runs = [run for run in runs if not only or fnmatch(run.name, only)]
        missing = left_of(runs, store)
        if list:
            return show(runs, missing, store)
        failed = run_all(missing, len(runs), store, jobs)
        left_of(runs, store)  # what other settings with the same options found
    tell(store, folder)
    return 1 if failed else 0


def data_sets(names: Sequence[str]) -> dict[str, DataSet]:
    """Those of the lab by name, or of the user by path."""
    return {
        Path(name).name if Path(name).exists() else name: DataSet(name)
        if name not in SETS and Path(name).exists()
        else look_up("data set of the lab", name, SETS)
        for name in names or SETS
    }


def settings_named(names: Sequence[str]) -> dict[str, Any]:
    """Settings by name or pattern, without those of PML where that is not installed."""
    chosen: dict[str, Any] = {}
    for name in names or ("*",):
        found = {each: options for each, options in SETTINGS.items() if fnmatch(each, name)}
        chosen |= found or {name: look_up("setting of the lab", name, SETTINGS)}
    peers = [name for name, options in chosen.items() if "pml.loss" in options]
    if peers and find_spec("pytorch_metric_learning") is None:
        print(f"{len(peers)} settings of PML are left out: pip install 'pullpush[bench]'", file=sys.stderr)
        return {name: options for name, options in chosen.items() if name not in peers}
    return chosen


def at_hand(name: str, data: DataSet, size: int, folder: Path) -> bool:
    """Whether a data set is on this machine; it is decoded here, once, before any run."""
    try:
        with showing(sys.stderr.isatty()):
            packed(data, size, folder)
    except UserError as error:
        print(f"{name} is left out: {printable(str(error))}", file=sys.stderr)
        return False
    return True


def records_of(store: Path) -> list[dict[str, Any]]:
    """The results so far, oldest first; a line that was cut off by a kill counts for nothing."""
    return read_jsonl(store, FIELDS)[0] if store.exists() else []


def left_of(runs: Sequence[Run], store: Path) -> list[Run]:
    """The runs without a result. What another setting with the same options found is taken over."""
    known = {(each["set"], each["key"], each["seed"]): each for each in records_of(store)}
    named = {(each["set"], each["key"], each["seed"], each["setting"]) for each in records_of(store)}
    missing = []
    for run in runs:
        key = (run.set, run.key, run.seed)
        if key not in known:
            missing.append(run)
        elif (*key, run.setting) not in named:
            append(store, {**known[key], "setting": run.setting, "options": dict(run.options)})
    return missing


def append(store: Path, record: dict[str, Any]) -> None:
    """Adds a line at once, behind whatever a killed run left of its own."""
    store.parent.mkdir(parents=True, exist_ok=True)
    cut = store.exists() and store.stat().st_size and not store.read_bytes().endswith(b"\n")
    with store.open("ab") as file:
        file.write(b"\n" * bool(cut) + json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def run_all(missing: Sequence[Run], total: int, store: Path, jobs: int) -> list[str]:
    """Runs them and keeps their results; the names of those that failed."""
    # Two settings with the same options are one run.
    missing = [*{(run.set, run.key, run.seed): run for run in missing}.values()]
    failed, terminal, since = [], sys.stderr.isatty(), time.monotonic()
    if total > len(missing):
        print(f"{total - len(missing)} of {total} runs are done already", file=sys.stderr)
    with showing(terminal), work("runs", total, "runs", total - len(missing)) as current:
        for ended, (run, result) in enumerate(results_of(missing, min(jobs, len(missing))), 1):
            if isinstance(result, str):
                failed.append(run.name)
                said = result
            else:
                append(store, result)
                said = " ".join(f"{part} {result[part]['recall@1']:.3f}" for part in ("validation", "test"))
            current.advance(note=run.name)
            if not terminal or isinstance(result, str):
                left = duration((time.monotonic() - since) / ended * (len(missing) - ended))
                line = f"{current.done}/{total} {run.name}: {said}; {left} left"
                print(printable(line), file=sys.stderr, flush=True)
    if failed:
        print(f"{len(failed)} runs failed: {', '.join(failed)}", file=sys.stderr)
    return failed


def results_of(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, dict[str, Any] | str]]:
    """Runs with their results, or with what went wrong, as they end; they end with this process."""
    if not runs:
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # One thread a run: two runs side by side get farther than one on two cores.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=child_of_study, initargs=(1,))
    try:
        futures = {pool.submit(guarded, run): run for run in runs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        for child in multiprocessing.active_children():
            child.kill()  # a run that has not ended counts for nothing
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def guarded(run: Run) -> dict[str, Any] | str:
    """The result of a run, or why there is none."""
    try:
        return measured(run)
    except UserError as error:
        return str(error)


def show(runs: Sequence[Run], missing: Sequence[Run], store: Path) -> int:
    """What is done and what is missing, and how long that takes by what runs took so far."""
    for run in runs:
        print(f"{'missing' if run in missing else 'done':8}{run.name}")
    took = [each["seconds"] for each in records_of(store)]
    about = f", about {duration(len(missing) * sum(took) / len(took))} on one core" if took and missing else ""
    print(f"{len(missing)} of {len(runs)} runs are missing{about}")
    return 0


def tell(store: Path, folder: Path) -> int:
    """The page, and of the results that belong to the project its page of the docs."""
    records = records_of(store)
    if not records:
        raise UserError(f"{str(store)!r} holds no results: run the lab without --table first")
    print(f"page: {write_page(records, folder)}")
    if store.resolve() == HERE / "lab.jsonl":
        print(f"tables: {write_docs(records)}")
    return 0


def main(argv: Sequence[str]) -> int:
    try:
        status: int = call(lab, argv, PROG)
        return status
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
