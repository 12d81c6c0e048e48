"""What a few validation items find as a run goes on, a line a validation: for whoever looks on while it trains."""

from pathlib import Path

import numpy as np

from pullpush.evaluation.cross_modal import CrossModal
from pullpush.evaluation.evaluate import Evaluation
from pullpush.runs.log import append

__all__ = ["RETRIEVED", "append_retrieved"]

RETRIEVED = "retrieved.jsonl"
QUERIES, HITS = 6, 8


def append_retrieved(folder: Path, step: int, evaluation: Evaluation | CrossModal) -> None:
    """Adds a line to retrieved.jsonl: `step`, `queries` (rows of the validation split, or with `texts` of its texts)
    and `hits` (for each the nearest rows). The queries are of different classes, and the same ones each time.

    Raises:
        UserError: the disk is full.
    """
    texts = isinstance(evaluation, CrossModal)
    one = evaluation.text_to_image if isinstance(evaluation, CrossModal) else evaluation
    asked = one.per_query[one.counted].drop_duplicates("label")
    drawn = np.random.default_rng(0).permutation(len(asked))[:QUERIES]
    places = np.flatnonzero(one.counted & one.per_query.index.isin(asked.index[np.sort(drawn)]))
    hits = one.neighbours.indices[places, :HITS]
    rows = one.per_query.index[places]
    append(folder / RETRIEVED, {"step": step, "texts": texts, "queries": rows.tolist(), "hits": hits.tolist()})
