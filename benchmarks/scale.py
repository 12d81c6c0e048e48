"""The whole way at two sizes of one data set: time and memory of each stage, how they grow, and what ten million would
take.

    python benchmarks/scale.py                     # about 10,000 icons and all of them: half an hour on two free cores
    python benchmarks/scale.py --classes 300 1200  # smaller, to try it

Writes the tables of docs/scale.md and benchmarks/scale.json. Each stage is a process of its own, as a command is.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "scale.json", HERE.parent / "docs" / "scale.md"
MARK = "@stage "
EVERY = 0.2
"""Seconds between two looks at the memory."""
PAPER = 10_000_000
STEPS = 300
SIZE = 48
TEST, VALIDATION = 0.3, 0.05
SEARCHES = 200


def mark(stage: str) -> None:
    """What the process does from now on."""
    print(f"{MARK}{stage}", flush=True)


def items_of(classes: int) -> Any:
    from pullpush.data.sources import open_items

    return open_items("iconify", classes=classes)


def data(work: Path, classes: int) -> None:
    from pullpush.data.check import inspect, summary
    from pullpush.data.splits import split_by_class

    mark("read the table, split the classes")
    items = split_by_class(items_of(classes), test=TEST, validation=VALIDATION)
    mark("check all images")
    summary(items, inspect(items))


def train(work: Path, classes: int) -> None:
    from pullpush.files.cache import cache_folder
    from pullpush.training.callbacks import Callback
    from pullpush.training.loop import train as run

    class Marks(Callback):
        def on_setup(self, run: Any) -> None:
            mark("test the untrained model")

        def on_train_start(self, run: Any) -> None:
            mark(f"{STEPS} steps, two validations")

        def on_finish(self, run: Any) -> None:
            mark("test and save the trained model")

    kept = set(cache_folder("features").glob("*.npy"))
    mark("features of the frozen backbone")
    run(
        quiet=True,
        callbacks=[Marks()],
        out=str(work / "run"),
        report=False,
        tensorboard=False,
        steps=STEPS,
        validate_every=STEPS // 2,
        data={"source": "iconify", "classes": classes, "check": False, "test": TEST, "validation": VALIDATION},
        encoder={"freeze": True, "size": SIZE},
        loss="contrastive",
        memory={"size": 0.75, "combine": "sum", "fill": True},
    )
    for file in set(cache_folder("features").glob("*.npy")) - kept:  # the next one computes them, too
        file.unlink()


def evaluate(work: Path, classes: int) -> None:
    from pullpush.cli import main

    mark("evaluate")
    main(["evaluate", str(work / "run"), "--json"])


def diagnose(work: Path, classes: int) -> None:
    from pullpush.cli import main

    mark("diagnose")
    main(["diagnose", str(work / "run")])


def report(work: Path, classes: int) -> None:
    from pullpush.cli import main

    mark("report")
    main(["report", str(work / "run")])


def index(work: Path, classes: int) -> None:
    from pullpush.search import build_index

    mark("read the table")
    items = items_of(classes)
    mark("build the index")
    build_index(work / "run", items, work / "index")
    mark("update it, nothing has changed")
    build_index(work / "run", items, work / "index")


def search(work: Path, classes: int) -> None:
    import numpy as np

    from pullpush.search import open as open_index

    items = items_of(classes)
    images = [items.path(row) for row in np.linspace(0, len(items) - 1, SEARCHES).astype(int)]
    mark("open the index")
    engine = open_index(work / "index")
    mark(f"{SEARCHES} searches by image")
    for image in images:
        engine.query(image=[image], k=10)


STAGES: Mapping[str, Callable[[Path, int], None]] = {
    each.__name__: each for each in (data, train, evaluate, diagnose, report, index, search)
}


def measured(stage: str, work: Path, classes: int) -> dict[str, dict[str, float]]:
    """Seconds, processor seconds and peak bytes of each part of a stage."""
    command = [sys.executable, __file__, "--stage", stage, "--work", str(work), "--classes", str(classes)]
    parts: dict[str, dict[str, float]] = defaultdict(lambda: {"seconds": 0.0, "cpu": 0.0, "bytes": 0.0})
    current = ["start"]
    environment = {"GOMP_SPINCOUNT": "10000", **os.environ}  # as the command line sets it
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def listen() -> None:
        for line in process.stdout or ():
            if line.startswith(MARK):
                current[0] = line.removeprefix(MARK).strip()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    clock, cpu = time.perf_counter(), 0.0
    while process.poll() is None:
        used, held = tree(process.pid)
        now = time.perf_counter()
        part = parts[current[0]]
        part["seconds"] += now - clock
        part["cpu"] += max(used - cpu, 0.0)
        part["bytes"] = max(part["bytes"], held)
        clock, cpu = now, max(used, cpu)
        time.sleep(EVERY)
    listener.join()
    if process.returncode:
        raise SystemExit(f"{stage} failed: {' '.join(command)}")
    return dict(parts)


def tree(pid: int) -> tuple[float, float]:
    """Processor seconds of a process and all that it started, and bytes of their own memory: what several share counts
    once, and mapped files, which can be dropped at any time, not at all."""
    used = held = 0.0
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it may just have ended
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            times = process.cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
            held += own_bytes(process)
    return used, held


def own_bytes(process: psutil.Process) -> int:
    rollup = Path(f"/proc/{process.pid}/smaps_rollup")
    try:
        found = re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", rollup.read_text(), re.MULTILINE)
        return 1024 * sum(map(int, found))
    except OSError:  # not Linux, or it has just ended
        return int(process.memory_info().rss)


def run(sizes: list[int], stages: list[str], folder: Path) -> list[dict[str, Any]]:
    """A row a part of a stage: its figures at each size."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for classes in sizes:
        images = len(items_of(classes))
        work = folder / str(classes)
        work.mkdir(parents=True, exist_ok=True)
        for stage in stages:
            parts = measured(stage, work, classes)
            for part, figures in parts.items():
                if part == "start":
                    continue
                row = rows.setdefault((stage, part), {"stage": stage, "part": part, "sizes": []})
                row["sizes"].append({"images": images, **figures})
                print(f"{images:,} images, {stage}, {part}: {figures}", flush=True)
    return list(rows.values())


def growth(row: Mapping[str, Any], what: str) -> tuple[float, float] | None:
    """The exponent with which a figure grows from the first size to the last, and what it comes to on paper: a constant
    and a linear part through the two, or, where it grows faster than the data, a linear and a quadratic one."""
    first, last = row["sizes"][0], row["sizes"][-1]
    n, m = first["images"], last["images"]
    if n == m or min(first[what], last[what]) <= 0:
        return None
    exponent = math.log(last[what] / first[what]) / math.log(m / n)
    powers = (0, 1) if exponent <= 1 else (1, 2)
    # two equations: first = a n^p + b n^q, last = a m^p + b m^q
    (p, q), (x, y) = powers, (first[what], last[what])
    determinant = n**p * m**q - m**p * n**q
    a, b = (x * m**q - y * n**q) / determinant, (n**p * y - m**p * x) / determinant
    return exponent, max(a * PAPER**p + b * PAPER**q, y)


def table(rows: list[dict[str, Any]]) -> str:
    """The table of docs/scale.md."""
    sizes = sorted({size["images"] for row in rows for size in row["sizes"]})
    heads = [f"{size:,}: s / CPU s / GB" for size in sizes]
    lines = [f"| stage | {' | '.join(heads)} | CPU grows by | {PAPER // 10**6} million, on paper: CPU, GB |"]
    lines.append(f"| --- |{' --- |' * (len(heads) + 2)}")
    for row in rows:
        cells = [f"{s['seconds']:,.1f} / {s['cpu']:,.1f} / {s['bytes'] / 1e9:.2f}" for s in row["sizes"]]
        time_, memory = growth(row, "cpu"), growth(row, "bytes")
        paper = f"{spoken(time_[1])}, {memory[1] / 1e9:,.1f} GB" if time_ and memory else ""
        cells += [""] * (len(sizes) - len(cells))
        grows = f"n^{time_[0]:.2f}" if time_ else ""
        lines.append(f"| {row['stage']}: {row['part']} | {' | '.join(cells)} | {grows} | {paper} |")
    return "\n".join(lines)


def spoken(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def write(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Beside the figures of other stages and sizes that were measured before; all of them, stage by stage."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    every = {(row["stage"], row["part"]): row for row in known}
    for row in rows:
        old = every.setdefault((row["stage"], row["part"]), row)
        sizes = {size["images"]: size for size in (*old["sizes"], *row["sizes"])}
        old["sizes"] = [sizes[images] for images in sorted(sizes)]
    merged = sorted(every.values(), key=lambda row: list(STAGES).index(row["stage"]))
    RESULTS.write_text(json.dumps(merged, indent=1) + "\n")
    if PAGE.exists():
        begin, end = "<!-- measured -->\n", "<!-- end -->"
        before, _, rest = PAGE.read_text().partition(begin)
        PAGE.write_text(f"{before}{begin}{table(merged)}\n{end}{rest.partition(end)[2]}")
    return merged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[1200, 0], help="0: all")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--work", type=Path, help="where runs and indexes are kept (default: a temporary folder)")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.stage:
        STAGES[chosen.stage](chosen.work, chosen.classes[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = run(chosen.classes, chosen.stages, chosen.work or Path(folder))
    print(table(write(rows)))


if __name__ == "__main__":
    main()
