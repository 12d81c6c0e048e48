"""Run the benchmarks: `python benchmarks/run.py [--area AREA ...]`, write `results.json` beside this file.

Each area is a module here with `run() -> list[dict]`; a row is `{"name", "ours", "other", "unit", "ratio"}` with
ratio = other / ours, and its name is `area/work/size/against`. With `--area`, rows of the other areas are kept.
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pullpush.training.cpu import keep_freed_memory

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
NOT_AREAS = {"run", "measure", "attackers", "scale", "held", "killed", "unknown", "calibration", "__init__"}


def areas() -> list[str]:
    lab = {path.stem for path in HERE.glob("lab*.py")}
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_AREAS | lab)


def write(rows: list[dict[str, Any]], path: Path = RESULTS) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(rows, indent=2) + "\n")
    os.replace(part, path)


def show(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table("benchmark", "unit", title="ratio = other / ours: more than 1, we are ahead", title_justify="left")
    for column in ("ours", "other", "ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        style = "green" if row["ratio"] >= 1 else "yellow"
        figures = [f"{row[side]:,.4g}" if row[side] < 1e6 else f"{row[side]:,.0f}" for side in ("ours", "other")]
        table.add_row(row["name"], row["unit"], *figures, f"[{style}]{row['ratio']:.2f}[/]")
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the benchmarks and write results.json.")
    parser.add_argument("--area", nargs="+", choices=areas(), help="only these (default: all)")
    chosen = parser.parse_args().area or areas()
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    keep_freed_memory()  # as in training; it serves both sides
    console = Console()
    rows: list[dict[str, Any]] = []
    if set(chosen) != set(areas()) and RESULTS.exists():
        rows = [row for row in json.loads(RESULTS.read_text()) if row["name"].split("/")[0] not in chosen]
    failed = []
    for area in chosen:
        start = time.perf_counter()
        try:
            rows += importlib.import_module(f"benchmarks.{area}").run()
        except Exception:  # the other areas are still worth their time; the exit status tells
            traceback.print_exc()
            failed.append(area)
        console.print(f"{area}: {time.perf_counter() - start:.0f} s")
        write(rows)
    show(rows, console)
    if failed:
        console.print(f"[red]failed: {', '.join(failed)}[/]")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
