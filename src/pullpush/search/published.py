"""The published version of an index, open for searching: its items, their embeddings and thumbnails, its classes."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from pullpush.encoders.decision import Decision
from pullpush.encoders.rerank import Rerank, rerank_of
from pullpush.search import origin, thumbnails
from pullpush.search.chances import Chances, chances_of
from pullpush.search.errors import NoItem
from pullpush.search.exact import Rows
from pullpush.search.gallery import Gallery, gallery_of
from pullpush.search.hits import Hit, Hits
from pullpush.search.stores import Vectors, open_store, trusted
from pullpush.search.stores.base import FILTERS
from pullpush.search.version import Opened

__all__ = ["Version"]

SHOWN = ("id", "path", "label", "text", "category", "domain")
"""Columns of the table that a hit shows."""


class Version(Opened):
    """A published version, open for searching. Never changes; a new one takes its place.

    Attributes:
        vectors: the embeddings, as the store searches them.
        table: a row an item, by id.
        rows: from ids to rows of the table.
        values: of each column by which a search can be narrowed down, those that there are.
        made_here: whether the index was made on this machine, see `origin.py`.
    """

    def __init__(self, index: Path, store: str | None = None) -> None:
        super().__init__(index)
        manifest = self.manifest
        self.vectors: Vectors = open_store(trusted(manifest.store, store), manifest.uid).open(
            self.folder, manifest.version
        )
        self.table = self.table.set_index("id", drop=False)
        self.made_here = origin.made_here(manifest, self.folder)
        self.rows = Rows(self.table["id"].to_numpy())
        self.values = {name: dict.fromkeys(self.table[name].unique()) for name in FILTERS}
        # Column by column: pandas takes longer for a row than the search for all.
        self._shown = [self.table[name].to_numpy() for name in SHOWN]
        self._packs = thumbnails.Packs(self.folder)
        self._chances: Chances | None = None

    def row(self, item: int) -> int:
        """Where an item stands in the table. Raises: `NoItem`."""
        try:
            return int(self.table.index.get_loc(int(item)))
        except KeyError:
            raise NoItem(f"{self.index} has no item {item}; ids are those that a search returns") from None

    def thumbnail(self, item: int) -> bytes:
        """WebP. Raises: `NoItem`."""
        row = self.table.iloc[self.row(item)]
        return self._packs.read(int(row["pack"]), int(row["offset"]), int(row["length"]))

    def vectors_of(self, items: Sequence[int]) -> np.ndarray:
        """The embeddings of items, `[n, dim]`. Raises: `NoItem`."""
        for item in items:
            self.row(item)
        return self.vectors.get(np.array(items, np.int64)) if len(items) else self.none()

    def none(self) -> np.ndarray:
        """No embeddings, `[0, dim]`."""
        return np.zeros((0, self.manifest.dim), np.float32)

    @cached_property
    def decision(self) -> Decision | None:
        """The decision of the model when the version was written."""
        return Decision.of(self.manifest.decision) if self.manifest.decision else None

    @cached_property
    def rerank(self) -> Rerank:
        """The re-ranking of the model when the version was written; nothing where it had none."""
        return rerank_of(self.manifest.rerank)

    def chances(self, decision: Decision) -> Chances:
        """How hits are read with a decision; computed once for it."""
        if self._chances is None or self._chances.decision is not decision:
            self._chances = chances_of(self.table, self.vectors, decision)
        return self._chances

    @cached_property
    def gallery(self) -> Gallery:
        """The classes, among which somebody is identified. Raises: `BadQuery` where there are none."""
        return gallery_of(self.table, self.vectors)

    def hits(self, rows: np.ndarray, scores: np.ndarray, near: np.ndarray, chances: np.ndarray | None = None) -> Hits:
        """The items in these rows of the table, with their scores, closeness and probabilities."""
        probabilities = [None] * len(rows) if chances is None else chances.tolist()
        columns = (*(column[rows] for column in self._shown), scores.tolist(), near.tolist(), probabilities)
        folder = str(self.index)
        return Hits(
            Hit(
                int(item),
                score,
                os.path.join(folder, path),
                label,
                [str(each) for each in text],
                category,
                domain,
                closeness=close,
                probability=chance,
            )
            for item, path, label, text, category, domain, score, close, chance in zip(*columns, strict=True)
        )
