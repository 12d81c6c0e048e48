"""Numbers of the report: metrics before and after, classes, categories, the environment, how each was obtained."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pullpush.data.items import Items
from pullpush.evaluation import Evaluation
from pullpush.evaluation.metrics import METRICS, metric_of, title_of
from pullpush.runs.reader import RunFolder


@dataclass(frozen=True)
class MetricRow:
    """One line of the before/after table; fractions, None where not known."""

    key: str
    before: float | None
    after: float | None

    @property
    def name(self) -> str:
        """On the page."""
        return title_of(self.key)

    @property
    def change(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def worse(self) -> bool:
        """Whether the trained model is known to be worse than the untrained one."""
        if self.change is None or self.key.endswith("deviation"):
            return False
        metric = metric_of(self.key)
        return self.change > 0 if metric is not None and not metric.higher_is_better else self.change < 0


def metric_rows(test: Mapping[str, Any]) -> list[MetricRow]:
    """The lines of `metrics.json["test"]` in their order there, which is that of the protocol; ranks are no fractions
    and stand with the descriptions."""
    before, after = test.get("before") or {}, test.get("after") or {}
    return [
        MetricRow(key, before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if not key.endswith("_rank")
    ]


def category_table(items: Items, evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """recall@1 of each category (index), a column an evaluation, `classes` and `queries`; empty without categories."""
    frames = {name: found.per_category for name, found in evaluations.items() if found.per_category is not None}
    if items.table["category"].nunique() < 2 or not frames:
        return pd.DataFrame()
    frame = pd.DataFrame({name: each["recall@1"] for name, each in frames.items()})
    frame["queries"] = next(iter(frames.values()))["queries"]
    frame["classes"] = items.table.groupby("category")["label"].nunique()
    frame.index = [name or "(none)" for name in frame.index]
    return frame.sort_values(list(evaluations)[-1], ascending=False)


def recall_interval(found: Evaluation, seed: int = 0, repeats: int = 1000) -> tuple[float, float]:
    """95% interval of recall@1 by bootstrap over classes: items of one class are not independent."""
    queries, recalls = found.per_class["queries"].to_numpy(), found.per_class["recall@1"].to_numpy()
    drawn = np.random.default_rng(seed).integers(len(queries), size=(repeats, len(queries)))
    recall = (queries * recalls)[drawn].sum(1) / queries[drawn].sum(1)
    low, high = np.quantile(recall, [0.025, 0.975])
    return float(low), float(high)


def split_table(items: Items) -> pd.DataFrame:
    """Items and classes of each split that is there."""
    table = items.table[items.table["split"] != ""]
    frame = table.groupby("split")["label"].agg(items="size", classes="nunique")
    return frame.reindex([s for s in ("train", "validation", "test") if s in frame.index])


def how_obtained(run: RunFolder, found: Evaluation | None, tested: Mapping[str, Any]) -> list[str]:
    """Sentences on the protocol: splits, queries and references, what was left out, ties; definitions of the metrics
    that were `tested`."""
    lines = []
    if run.labelled:
        table = run.items.table[run.items.table["split"] != ""]
        shared = int((table.groupby("label")["split"].nunique() > 1).sum())
        if shared:
            lines.append(
                f"{shared:,} classes are in more than one split: the test split is not one of unseen classes alone."
            )
        elif table["split"].nunique() > 1:
            lines.append("No class is in two of the splits: every class of the test split is new to the model.")
    if found is not None:
        lines += [
            f"Leave-one-out on the test split: each of {len(found.per_query):,} items is a query against all others."
            if (run.split("test").table["role"] == "both").all()
            else f"Query and gallery on the test split: {len(found.per_query):,} queries against {found.references:,} "
            "gallery items; an item that is both never retrieves itself.",
            f"{found.left_out:,} queries have no positive in the gallery; they are left out of every mean."
            if found.left_out
            else "No query is left out: each has a positive in the gallery.",
            "An item is told from another by its id: duplicates of an image with other ids are ordinary references.",
        ]
    if found is not None or tested:
        lines.append(
            "Similarity is the cosine. Ties never help: a model whose similarities are all equal scores like chance."
        )
    shown = {metric_of(key) for key in tested}
    lines += [f"{m.title}: {m.meaning[0].lower()}{m.meaning[1:]}" for m in METRICS.values() if m in shown]
    if found is not None:
        lines.append(
            "Table and curves are read from metrics.json and log.jsonl, neighbours and classes from what the "
            "evaluation saved. Histograms and maps are computed from the stored embeddings when this page is drawn; "
            "every random choice has a fixed seed."
        )
    return lines


PACKAGES = ("pullpush", "torch", "torchvision", "timm", "numpy", "faiss-cpu", "matplotlib", "umap-learn", "bokeh")


def environment() -> dict[str, str]:
    """Versions and processor of the machine that draws the page; no path and no host name."""
    found = {"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    found["processor"] = f"{_processor()}, {os.cpu_count()} cores"
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
