"""Numbers of the report: metrics before and after, classes, categories, how each was obtained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pullpush.data.items import SPLITS, Items
from pullpush.doctor.findings.training import is_worse
from pullpush.evaluation import Evaluation
from pullpush.evaluation.bootstrap import Interval, mean_interval
from pullpush.evaluation.metrics import METRICS, metric_of, title_of
from pullpush.runs.reader import RunFolder

__all__ = ["MetricRow", "category_table", "how_obtained", "metric_rows", "recall_interval", "split_table"]


@dataclass(frozen=True)
class MetricRow:
    """One line of the table of the test: before and after training, and by the trained model in its test views;
    fractions, None where not known."""

    key: str
    before: float | None
    after: float | None
    views: float | None = None

    @property
    def name(self) -> str:
        """On the page."""
        return title_of(self.key)

    @property
    def change(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def worse(self) -> bool:
        """Whether the trained model is known to be worse than the untrained one, as of `is_worse`."""
        if self.before is None or self.after is None or self.key.endswith("deviation"):
            return False
        metric = metric_of(self.key)
        if metric is not None and not metric.higher_is_better:
            return is_worse(self.after, self.before)
        return is_worse(self.before, self.after)


def metric_rows(test: Mapping[str, Any]) -> list[MetricRow]:
    """The lines of `metrics.json["test"]` in their order there, which is that of the protocol; ranks are no fractions
    and stand with the texts."""
    before, after, views = (test.get(when) or {} for when in ("before", "after", "views"))
    return [
        MetricRow(key, before.get(key), after.get(key), views.get(key))
        for key in dict.fromkeys([*before, *after])
        if not key.endswith("_rank")
    ]


def category_table(items: Items, evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """recall@1 of each category (index), a column an evaluation, `classes` and `queries`; empty without categories."""
    frames = {name: each.per_category for name, each in evaluations.items() if each.per_category is not None}
    if items.table["category"].nunique() < 2 or not frames:
        return pd.DataFrame()
    frame = pd.DataFrame({name: each["recall@1"] for name, each in frames.items()})
    frame["queries"] = next(iter(frames.values()))["queries"]
    frame["classes"] = items.table.groupby("category")["label"].nunique()
    frame.index = [name or "(none)" for name in frame.index]
    return frame.sort_values(list(evaluations)[-1], ascending=False)


def recall_interval(evaluation: Evaluation) -> Interval:
    """recall@1 with its interval over the choice of classes."""
    queries = evaluation.per_query[evaluation.counted]
    return mean_interval(queries["recall@1"], queries["label"])


def split_table(items: Items) -> pd.DataFrame:
    """Items and classes of each split that is there."""
    table = items.table[items.table["split"] != ""]
    frame = table.groupby("split")["label"].agg(items="size", classes="nunique")
    return frame.reindex([split for split in SPLITS if split in frame.index])


def how_obtained(run: RunFolder, after: Evaluation | None, tested: Mapping[str, Any]) -> list[str]:
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
    if after is not None:
        lines += [
            f"Leave-one-out on the test split: each of {len(after.per_query):,} items is a query against all others."
            if (run.split("test").table["role"] == "both").all()
            else f"Query and gallery on the test split: {len(after.per_query):,} queries against {after.references:,} "
            "gallery items; an item that is both never retrieves itself.",
            f"{after.left_out:,} queries have no positive in the gallery; they are left out of every mean."
            if after.left_out
            else "No query is left out: each has a positive in the gallery.",
            "An item is told from another by its id: duplicates of an image with other ids are ordinary references.",
        ]
    if after is not None or tested:
        lines.append(
            "Similarity is the cosine. Ties never help: a model whose similarities are all equal scores like chance."
        )
    shown = {metric_of(key) for key in tested}
    lines += [f"{m.title}: {m.meaning[0].lower()}{m.meaning[1:]}" for m in METRICS.values() if m in shown]
    if after is not None:
        lines.append(
            "Table and curves are read from metrics.json and log.jsonl, neighbours and classes from what the "
            "evaluation saved. Histograms and maps are computed from the stored embeddings when this page is drawn; "
            "every random choice has a fixed seed."
        )
    return lines
