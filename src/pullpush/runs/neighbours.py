"""What the evaluation of a split computed, in the run folder: ranks, metrics and neighbours of each query."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pullpush.evaluation.cross_modal import CrossModal
from pullpush.evaluation.evaluate import FACTS, Evaluation, summarised
from pullpush.evaluation.knn import Neighbours
from pullpush.evaluation.ranks import NEAREST
from pullpush.files import damaged, replacing
from pullpush.files.arrays import read_npz
from pullpush.files.text import CURE
from pullpush.runs.log import go_on

__all__ = ["read_neighbours", "save_neighbours"]

# Arrays of the file with a row a query, and NumPy's letters of what they hold.
COLUMNS = {
    "row": "i",
    "label": "i",
    "id": "i",
    "category": "U",
    "positives": "i",
    "rank": "f",
    "nearest_positive": "i",
    "nearest_negative": "i",
    "metric_values": "f",
    "indices": "i",
    "similarities": "f",
}
# Columns that a run may not have, and those with several values a query.
OPTIONAL, WIDE = ("id", "category"), ("metric_values", "indices", "similarities")
OTHERS = {"metric_names": "U", "references": "i", "protocol": "U"}


def save_neighbours(folder: Path, name: str, evaluation: Evaluation | CrossModal) -> None:
    """Writes `neighbours/NAME.npz` in a run folder; of images with texts `NAME-text_to_image.npz`,
    `NAME-image_to_text.npz`, and `NAME.npz` where images were evaluated among themselves.

    Args:
        folder: the run folder.
        name: the split and when, such as `test-after`.
        evaluation: the evaluation; row numbers are those of the split.

    Raises:
        UserError: the disk is full.
    """
    if isinstance(evaluation, CrossModal):
        for way in ("image_to_text", "text_to_image"):
            save_neighbours(folder, f"{name}-{way}", getattr(evaluation, way))
        if evaluation.images is not None:
            save_neighbours(folder, name, evaluation.images)
        return
    queries = evaluation.per_query
    names = [column for column in queries if column not in FACTS]
    arrays: dict[str, NDArray[Any]] = {
        **{column: queries[column].to_numpy() for column in FACTS if column in queries},
        "category": queries.get("category", pd.Series()).to_numpy(str),
        "row": queries.index.to_numpy(),
        "metric_names": np.array(names),
        "metric_values": queries[names].to_numpy(),
        "indices": evaluation.neighbours.indices.astype(np.int32),
        "similarities": evaluation.neighbours.similarities,
        "references": np.array(evaluation.references),
        "protocol": np.array(evaluation.protocol),
    }
    arrays.setdefault("id", np.empty(0, np.int64))
    path = folder / "neighbours" / f"{name}.npz"
    with replacing(path, go_on(folder)) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # NumPy's stubs take keywords for allow_pickle


def read_neighbours(path: Path, queries: int, gallery: int, cure: str = CURE) -> Evaluation:
    """The evaluation that `save_neighbours` wrote, with the metrics that are means over its queries.

    Args:
        path: the file.
        queries: rows of the split that asks.
        gallery: rows of the split that is searched.
        cure: what to do where the file can't be used.

    Raises:
        UserError: no such file, damaged, or of another split.
    """
    arrays = read_npz(path, COLUMNS | OTHERS, cure=cure)
    rows, names = arrays["row"], arrays["metric_names"]
    there = {name: array for name, array in arrays.items() if name in COLUMNS and (array.size or name not in OPTIONAL)}
    if any(array.ndim != 1 + (name in WIDE) or len(array) != len(rows) for name, array in there.items()):
        raise damaged(path, "its arrays have not a row a query", cure)
    if there["metric_values"].shape[1:] != names.shape or arrays["references"].ndim:
        raise damaged(path, "its arrays are not of its metrics", cure)
    others = np.concatenate([arrays[name].ravel() for name in ("indices", *NEAREST)])
    for numbers, least, most in ((rows, 0, queries), (others, -1, gallery)):
        if numbers.min(initial=0) < least or numbers.max(initial=-1) >= most:
            raise damaged(path, f"it is of other rows than the {most} of the run", cure)
    metrics = dict(zip(names.tolist(), arrays["metric_values"].T, strict=True))
    per_query = pd.DataFrame({name: there[name] for name in FACTS if name in there} | metrics, index=rows)
    nearest = Neighbours(arrays["indices"].astype(np.int64), arrays["similarities"].astype(np.float32))
    return summarised(per_query, nearest, int(arrays["references"]), str(arrays["protocol"]))
