"""What the engine asks of a store, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

Where = Mapping[str, str]
FILTERS = ("label", "category", "domain", "split")
"""The columns that a search can be narrowed by. All are strings; `label` is the name of the class."""


@dataclass
class Change:
    """From one version to the next: what comes and what goes.

    `ids` int64 `[n]`, new (an id is never given twice); `vectors` float32 `[n, dim]`, length 1; `columns` a frame of
    `n` rows with `FILTERS`; `removed` int64, ids of the version before; `texts` gives the embeddings of texts such as
    people search with, float32 `[m, dim]`: asked for where search is approximate, which must be good for them too.
    """

    ids: np.ndarray
    vectors: np.ndarray
    columns: pd.DataFrame
    removed: np.ndarray
    texts: Callable[[], np.ndarray] | None = None


def recall_in_words(facts: Mapping[str, Any]) -> str:
    """`recall@10 0.961 of exact search (held-out items 0.984, texts 0.961)`; empty where search is exact or nothing was
    measured."""
    recall, measured = facts.get("recall@10"), facts.get("measured") or {}
    if recall is None or facts.get("kind") == "flat":
        return ""
    kinds = ", ".join(f"{name} {part['recall@10']:.3f}" for name, part in measured.items())
    return f"recall@10 {recall:.3f} of exact search ({kinds or 'nothing to measure it by'})"


class Rows:
    """Where the ids of a table stand in it; quicker for a few than pandas' own look-up."""

    def __init__(self, ids: np.ndarray) -> None:
        self._ids, self._order = ids, np.argsort(ids, kind="stable")

    def __call__(self, wanted: np.ndarray) -> np.ndarray:
        """Row numbers; -1 for an id that is not there. Negative ids are none."""
        if not len(self._ids):
            return np.full(wanted.shape, -1, np.int64)
        places = np.searchsorted(self._ids, wanted, sorter=self._order)
        found = self._order[np.minimum(places, len(self._ids) - 1)]
        return np.where((self._ids[found] == wanted) & (wanted >= 0), found, -1)


class Vectors(Protocol):
    """One published version, for reading; safe to use from several threads."""

    def __len__(self) -> int: ...

    def search(self, queries: np.ndarray, k: int, where: Where | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The nearest by inner product: scores float32 `[q, k]` descending, ids int64 `[q, k]`.

        `where`: only items whose columns have these values. Where fewer than `k` are found, the rest is -inf and -1.
        """
        ...

    def get(self, ids: np.ndarray) -> np.ndarray:
        """The vectors of `ids`, float32 `[n, dim]`. Raises `KeyError` for an id that is not there."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """Writes versions in two steps, so that the index can be published in between by renaming."""

    def stage(self, folder: Path, version: int, change: Change, previous: Path | None) -> dict[str, Any]:
        """Prepares `version` beside the published one, of which readers notice nothing, and returns facts for the
        record.

        `folder` is the new version's own folder, `previous` that of the version before (None: there is none). A version
        that was staged and never published (a crash) must not show in a later one.
        """
        ...

    def settle(self, version: int, change: Change) -> None:
        """After `version` is published: gives back what only the one before needed. May be repeated, may be missed."""
        ...

    def open(self, folder: Path, version: int) -> Vectors:
        """The published `version`."""
        ...
