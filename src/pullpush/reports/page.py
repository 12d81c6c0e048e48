"""From a run folder to `plots/*.png` and one self-contained `report.html`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pullpush.files import write_text
from pullpush.reports.context import Material
from pullpush.reports.interactive import COLOURS, REST
from pullpush.reports.layout import build
from pullpush.reports.render import render
from pullpush.reports.tables import MetricRow, metric_rows
from pullpush.runs.reader import Missing, RunFolder

TEXT_TO_IMAGE = "text to image, recall@1"
NO_METRICS = "metrics.json has no test metrics: the table of before and after is left out."


def report(run: Path | str, *, window: int = 50) -> Path:
    """Draw the report of a run from what the run folder holds; nothing is trained or embedded again.

    Writes `plots/*.png` and `report.html`, which opens without a network, and replaces those of an earlier report.
    Parts that a run does not have are left out; of those whose files are missing or damaged a note below says so, and
    of damaged files it warns.

    Args: run, the run folder (`docs/architecture.md` has its contract); window, steps in the moving average of the
        curves (default 50).
    Returns: the path of `report.html`.
    Raises: UserError when the folder is not there.
    """
    path, damaged = draw(run, window=window)
    for sentence in damaged:
        warnings.warn(sentence, stacklevel=2)
    return path


def draw(run: Path | str, *, window: int = 50) -> tuple[Path, list[str]]:
    """As `report`; returns the page and a sentence for each file that is damaged."""
    material = Material(RunFolder(Path(run)), window)
    sections = build(material)
    metrics = material.known_metrics
    rows = metric_rows(metrics.get("test") or {})
    html = render(
        "pullpush.reports",
        "report.html",
        name=material.run.name,
        sentence=sentence(material.run, metrics, rows, material.queried),
        rows=rows,
        main=main_row(rows),
        compared=any(row.before is not None for row in rows),
        queried=material.queried,
        colours=COLOURS,
        rest=REST,
        sections=sections,
        notes=[*material.run.notes, *material.notes, *([] if rows else [NO_METRICS])],
    )
    path = material.run.path / "report.html"
    write_text(path, html, f"then draw it again: pullpush report {run}")
    return path, list(material.run.damaged)


def sentence(run: RunFolder, metrics: Mapping[str, Any], rows: list[MetricRow], queried: str) -> str:
    """One sentence of what happened, from as much as is known."""
    data = Path(str(metrics.get("data", ""))).name  # of a folder or file the name alone
    loss = metrics.get("loss")
    try:
        steps = f"{int(run.log.index.max()):,} steps"
    except Missing:
        steps = "training"
    start = f"After {steps}" + (f" with the loss {loss}" if loss else "") + (f" on {data}" if data else "")
    seconds = metrics.get("seconds")
    start += f" ({duration(seconds)})" if isinstance(seconds, int | float) else ""
    main = main_row(rows)
    if main is None or main.after is None:
        return f"{start}, no evaluation of the test split was recorded."
    found = f"queries of {queried} find an item of their own class first"
    if main.name == TEXT_TO_IMAGE:
        found = f"descriptions of {queried} find an image of their own first"
    text = f"{start}, {100 * main.after:.1f}% of the {found}"
    return f"{text}; before training it was {100 * main.before:.1f}%." if main.before is not None else f"{text}."


def main_row(rows: list[MetricRow]) -> MetricRow | None:
    """The metric of the headline: text to image where there are descriptions, else recall@1."""
    by_name = {row.name: row for row in rows}
    return by_name.get(TEXT_TO_IMAGE) or by_name.get("recall@1")


def duration(seconds: float) -> str:
    """48 s, 2 min 23 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
