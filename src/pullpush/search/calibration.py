"""When is nothing close? A score means different things for different models, so it is read against the collection.

    closeness = (score - background) / (typical - background)

`background` is the query's own mean score over a fixed sample of items: what an item scores that has nothing to do
with the
query. `typical` is measured when the index is built: the median score of an item's nearest other item (for images), and
of an item with its own description (for texts). Closeness is about 0 for a random item and about 1 for a good
answer, whatever the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

SAMPLE, PROBES = 1_000, 256
CUT_OFF = 0.5
"""Hits below this closeness are left out."""


def sample(count: int, seed: int = 0) -> np.ndarray:
    """Row numbers of the background sample."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:SAMPLE])


def calibrate(
    ids: np.ndarray,
    texts: Sequence[str],
    get: Callable[[np.ndarray], np.ndarray],
    nearest: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]],
    embed_text: Callable[[list[str]], np.ndarray] | None,
) -> dict[str, float | None]:
    """`{"image": typical, "text": typical or None}`.

    `texts`: a description for each of `ids` ("" where it has none); `get(ids)` gives embeddings, `nearest(queries, k)`
    scores and ids.
    """
    rows = np.sort(np.random.default_rng(1).permutation(len(ids))[:PROBES])
    scores, found = nearest(get(ids[rows]), 2)
    others = scores[:, 1][found[:, 1] >= 0]
    typical: dict[str, float | None] = {"image": float(np.median(others)) if len(others) else 1.0, "text": None}
    described = [row for row in rows if texts[row]]
    if embed_text is not None and described:
        pairs = (embed_text([texts[row] for row in described]) * get(ids[described])).sum(axis=1)
        typical["text"] = float(np.median(pairs))
    return typical


def closeness(scores: np.ndarray, query: np.ndarray, background: np.ndarray, typical: float | None) -> np.ndarray:
    """Closeness of `scores` `[k]` for one `query` `[dim]`; `background` `[m, dim]` is the sample.

    Without a typical score (texts where no item has a description), five standard deviations above the background
    count as 1.
    """
    if not len(background):
        return np.ones_like(scores)
    known = background @ query
    middle = float(known.mean())
    top = middle + 5 * float(known.std()) if typical is None else typical
    return (scores - middle) / max(top - middle, 1e-6)
