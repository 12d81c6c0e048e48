"""What the model finds in each way that it can be used, and what that costs."""

from collections.abc import Mapping
from typing import Any

from pullpush.evaluation.retrieval import shown
from pullpush.reports.context import Context
from pullpush.reports.page import Block
from pullpush.runs.reader import Absent

__all__ = ["ways"]


def ways(context: Context) -> Block:
    """The table of metrics.json."""
    metrics = context.known_metrics
    rows = [shown(row) for row in metrics.get("retrieval") or []]
    if not rows:
        raise Absent("the run did not measure it")
    return Block(
        heading="Each way to use the model",
        head=list(rows[0]),
        rows=[[cell.replace(" ms", "\u00a0ms") for cell in row.values()] for row in rows],
        lines=_about(metrics),
        wide=True,
    )


def _about(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences on what was chosen, and on the columns."""
    views, rerank = metrics.get("views") or {}, metrics.get("rerank") or {}
    said = ["All settings were chosen on the validation classes; the test had no part in it."]
    if (metrics.get("test") or {}).get("views"):
        query, gallery = (", ".join(views[role]) for role in ("query", "gallery"))
        said.append(
            f"With views: a query is seen as {query}, an item of the gallery as {gallery}. The rows below the "
            "re-ranked ones are with views, too."
        )
    options, chosen = rerank.get("options", "none"), rerank.get("validation")
    if options != "none":
        said.append(f"Re-ranked: {options}.")
    elif chosen:
        said.append(f"Re-ranked: none of {chosen['tried'] - 1} ways was clearly better on the validation classes.")
    said.append(
        "Query and item: time to embed one, as a multiple of an image embedded once, as it is; milliseconds of one "
        "query alone, on the machine of the run. Ranking: processor time a query to rank all items and to measure what "
        "was found, all queries together. Bytes: of the embedding of an item."
    )
    return said
