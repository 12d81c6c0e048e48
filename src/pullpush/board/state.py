"""What the board shows of a run, read from its folder; nothing is written."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import psutil

from pullpush.data.items import Items
from pullpush.doctor.declaration import Finding
from pullpush.doctor.findings import FINDINGS
from pullpush.errors import UserError
from pullpush.files import read_jsonl, read_text
from pullpush.runs.reader import RUN_FILES, Missing, RunFolder, or_else
from pullpush.runs.retrieved import RETRIEVED

__all__ = ["PAGES", "folders", "is_run", "items_of", "run_state", "summary"]

State = Literal["preparing", "training", "testing", "finished", "stopped"]

SHOWN = ("recall@1", "map@r", "text_to_image/recall@1", "image_to_text/recall@1", "all_against_all/recall@1")
"""Metrics that are listed of the test, and drawn of the validation classes."""
CURVES = {
    "loss": ("train/loss", "validation/loss_miner", "validation/loss_all"),
    "found": tuple(f"validation/{name}" for name in SHOWN),
}
"""What is drawn, by its chart."""
POINTS = 400
SAMPLE = 24
"""Images that stand for the data before there are any hits."""
PAGES = ("report.html", "diagnosis.html")


def folders(root: Path) -> list[Path]:
    """The runs in a folder, those that were changed last first; links that lead elsewhere are left out."""
    return sorted((each for each in root.iterdir() if is_run(root, each.name)), key=_changed, reverse=True)


def is_run(root: Path, name: str) -> bool:
    """Whether there is a run of this name in a folder, and not elsewhere by a link."""
    folder = root / name
    within = folder.name == name and folder.resolve().parent == root.resolve()
    return within and (folder / "config.yaml").is_file()


def summary(run: RunFolder) -> dict[str, Any]:
    """A row of the list of runs."""
    folder = run.path
    steps, config = _steps(run), or_else(lambda: run.config, {})
    metrics = or_else(lambda: run.metrics, {})
    step = or_else(lambda: int(run.log.index.max()), 0)
    return {
        "name": folder.name,
        "state": _state(run, step, steps),
        "step": step,
        "steps": steps,
        "data": str(_within(config, "data", "source") or ""),
        "loss": str(_within(config, "loss", "name") or ""),
        "encoder": str(_within(config, "encoder", "name") or ""),
        "changed": _changed(folder),
        "seconds": metrics.get("seconds"),
        "test": {when: _listed(values) for when, values in _mapping(metrics.get("test")).items()},
        "findings": len(_findings(run)),
        "pages": [name for name in PAGES if (folder / name).is_file()],
    }


def run_state(folder: Path) -> dict[str, Any]:
    """A run as its page shows it."""
    run = RunFolder(folder)
    retrieved = _retrieved(run)
    return {
        **summary(run),
        "curves": or_else(lambda: _curves(run.log), {}),
        "problems": _findings(run),
        "retrieved": retrieved,
        "sample": [] if retrieved else _sample(folder),
        "options": or_else(lambda: run.config_text, ""),
    }


def items_of(folder: Path) -> Items | None:
    """The items of a run, kept in memory until the file changes; None where they are not there yet."""
    path = folder / "items.parquet"
    try:
        return _items(str(path), path.stat().st_mtime_ns)
    except (OSError, UserError):
        return None


@lru_cache(8)
def _items(path: str, changed: int) -> Items:
    return Items.load(path)


def _state(run: RunFolder, step: int, steps: int) -> State:
    if run.finished:
        return "finished"
    if not _held(run.path):
        return "stopped"
    if not (run.path / "log.jsonl").is_file() or not step:
        return "preparing"
    return "training" if step < steps else "testing"


def _held(folder: Path) -> bool:
    """Whether a process trains there: the one whose number is in the lock lives."""
    try:
        return bool(psutil.pid_exists(int(read_text(folder / ".lock"))))
    except (UserError, ValueError, OverflowError):
        return False


def _steps(run: RunFolder) -> int:
    steps = or_else(lambda: run.config, {}).get("steps")
    return steps if isinstance(steps, int) else 0


def _within(values: Mapping[str, Any], group: str, name: str) -> Any:
    return _mapping(values.get(group)).get(name)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(metrics: Any) -> dict[str, float]:
    return {name: metrics[name] for name in SHOWN if isinstance(_mapping(metrics).get(name), float)}


def _changed(folder: Path) -> float:
    """When it was last written to, in seconds."""
    files = (folder / name for name in RUN_FILES)
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def _curves(log: pd.DataFrame) -> dict[str, dict[str, list[list[float]]]]:
    """Points `[step, value]` of each line of each chart; of many, every so many."""
    drawn: dict[str, dict[str, list[list[float]]]] = {}
    for chart, names in CURVES.items():
        lines = {name: _points(pd.to_numeric(log[name], errors="coerce").dropna()) for name in names if name in log}
        drawn[chart] = {name: points for name, points in lines.items() if points}
    return drawn


def _points(values: pd.Series) -> list[list[float]]:
    drawn = values.iloc[np.unique(np.linspace(0, len(values) - 1, min(POINTS, len(values))).astype(int))]
    return [[int(step), float(value)] for step, value in drawn.items() if np.isfinite(value)]


def _findings(run: RunFolder) -> list[dict[str, Any]]:
    """What the monitor found, each finding once, as it was found last."""
    last = {each["finding"]: each for each in or_else(lambda: run.findings, []) if each["finding"] in FINDINGS}
    shown = ("finding", "severity", "evidence", "advice")
    return [{**each, "evidence": Finding(*(each[name] for name in shown)).seen} for each in last.values()]


def _retrieved(run: RunFolder) -> list[dict[str, Any]]:
    """What the validation queries found at each validation: rows of the item table, and whether they are right."""
    items, path = items_of(run.path), run.path / RETRIEVED
    if items is None or not path.is_file():
        return []
    try:
        lines, _ = read_jsonl(path, {"step": int, "texts": bool, "queries": list, "hits": list})
        rows = np.flatnonzero(items.table["split"].to_numpy() == "validation")
        texts = run.texts("validation") if lines and lines[0]["texts"] else None
        relation = _within(or_else(lambda: run.config, {}), "text", "relation")
        belongs = items.table["id" if texts is not None and relation == "item" else "label"].to_numpy()
        return [{"step": line["step"], "rows": list(_answers(line, rows, belongs, items, texts))} for line in lines]
    except (Missing, UserError, IndexError, KeyError, TypeError):  # half written, or of another version
        return []


def _answers(
    line: Mapping[str, Any], rows: Any, belongs: Any, items: Items, texts: pd.DataFrame | None
) -> Iterable[dict[str, Any]]:
    """Each query, an image or a text, with its hits, and how many of them could be right; `belongs` says of each item
    to what."""
    for query, hits in zip(line["queries"], line["hits"], strict=True):
        if texts is None:
            row = int(rows[query])
            key, asked = belongs[row], {"image": row, "text": items.classes[items.table["label"].iat[row]]}
        else:
            key, asked = texts["label"].iat[query], {"image": None, "text": str(texts["text"].iat[query])}
        found = [int(rows[hit]) for hit in hits if hit >= 0]
        there = np.count_nonzero(belongs[rows] == key) - (texts is None)
        right = [{"image": hit, "right": bool(belongs[hit] == key)} for hit in found]
        yield {"query": asked, "hits": right, "there": min(int(there), len(found))}


def _sample(folder: Path) -> list[int]:
    """Rows of a few training images of different classes."""
    items = items_of(folder)
    if items is None:
        return []
    table = items.table.reset_index(drop=True)
    train = table[table["split"] == "train"].drop_duplicates("label")
    return [int(row) for row in train.sample(min(SAMPLE, len(train)), random_state=0).index]
