"""Retrieval metrics: one function a file. `METRICS` finds every name in a file's `__all__`.

What `evaluate` computes, the names in `metrics.json` and the logs, the report's tables and definitions, and the
table of the docs follow from these.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from pullpush.evaluation.metrics.base import Metric, Standing
from pullpush.maths.registry import collect

__all__ = ["METRICS", "metric_of", "per_query", "title_of"]

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in sorted(
        (each for each in reversed(collect(__name__, __path__, skip={"base"}).values()) if isinstance(each, Metric)),
        key=lambda metric: (metric.of_clusters, not metric.takes_k, not metric.nearest_alone),
    )
}
"""By name, as in `Evaluation.metrics`; those with a k first, then those of the nearest alone; that of clusters last."""


def per_query(ks: Sequence[int]) -> dict[str, Callable[[Standing], Tensor]]:
    """The metrics of a query: `recall@1` and so on for each k, and those without a k."""
    functions: dict[str, Callable[[Standing], Tensor]] = {}
    for metric in METRICS.values():
        if metric.takes_k:
            functions |= {metric.name.replace("@k", f"@{k}"): partial(metric, k=k) for k in ks}
        elif not metric.of_clusters:
            functions[metric.name] = metric
    return functions


def metric_of(key: str) -> Metric | None:
    """The metric of a key in metrics.json or a log, such as `text_to_image/recall@10`; None where it is no metric."""
    names = (re.sub(r"@\d+$", "@k", part) for part in key.split("/"))
    return next((METRICS[name] for name in names if name in METRICS), None)


def title_of(key: str) -> str:
    """A key of metrics.json in words: `text to image, recall@10`, `MAP@R`."""
    return ", ".join(METRICS[part].title if part in METRICS else part.replace("_", " ") for part in key.split("/"))
