"""Writing the next version of an index: the table, thumbnails, map, calibration and store, published as one."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import hexdigits

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pullpush.encoders.model import Model
from pullpush.errors import UserError
from pullpush.evaluation.projection import place, project
from pullpush.files import damaged, read_text, write_text
from pullpush.files.tables import from_arrow, to_arrow
from pullpush.names import fresh
from pullpush.search import layout, origin, staging, thumbnails
from pullpush.search.calibration import calibrate
from pullpush.search.layout import Manifest
from pullpush.search.source import COLUMNS
from pullpush.search.stores import Change, Store, Vectors, open_store, trusted

__all__ = ["TABLE", "Draft", "Opened", "owner", "read", "tidy", "write", "writing"]

TABLE, REMOVED, UID = "items.parquet", "removed.npy", "uid"
MAPPED = 100_000
"""The map shows at most this many items, a fixed random choice."""
PLACED_BY = 5_000
"""A new item is placed by its neighbours among this many items."""
QUERIES = 200
"""Texts by which the recall of an approximate search is measured."""
ANEW_AT = 0.2
"""Share of new and removed items at which map and calibration are made anew; below it new items are placed into the
old map."""


@dataclass
class Opened:
    """A published version, as the writer sees it."""

    folder: Path
    manifest: Manifest
    table: pd.DataFrame


@dataclass
class Draft:
    """What the next version adds and what it leaves out.

    `table`: `source.COLUMNS` and `origin` (`source` or `upload`); `pairs`: (embedding, thumbnail) of each of its rows;
    `gone`: ids to remove; `model`: to calibrate with, None where it is not at hand; `anew`: place nothing into the
    old map; `store`: what the user named, see `stores.trusted`.
    """

    table: pd.DataFrame
    pairs: Iterable[tuple[np.ndarray, bytes]]
    gone: np.ndarray
    model: Model | None = None
    projection: str = "umap"
    anew: bool = False
    store: str | None = None
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


def read(index: Path) -> Opened | None:
    """The published version, checked; None where there is none."""
    published = layout.current(index)
    if published is None:
        return None
    folder, manifest = published
    layout.verify(folder, manifest, skip=thumbnails.PREFIX)
    table = from_arrow(pq.read_table(folder / TABLE))
    origin.check_uploads(index, table["path"], table["origin"])
    return Opened(folder, manifest, table)


def owner(index: Path) -> str:
    """The own name of an index that has no version yet, given once; a shared store knows by it whose vectors it holds.
    Call as the writer.

    Raises: `UserError` when the file of the name is damaged.
    """
    path = index / UID
    if not path.is_file():
        write_text(path, fresh())
    cure = "remove it, and the same command builds the index"
    uid = read_text(path, cure)
    if len(uid) != 32 or set(uid) - set(hexdigits):
        raise damaged(path, "it holds no name of an index", cure)
    return uid


def tidy(index: Path) -> None:
    """Removes what a writer that did not finish left behind: unpublished versions, and images that no item names.
    Call as the writer."""
    layout.drop_unfinished(index)
    staging.clean(index)
    published = layout.current(index)
    if published is None:
        return
    try:
        table = from_arrow(pq.read_table(published[0] / TABLE, columns=["path", "origin"]))
    except pa.ArrowException as error:
        raise damaged(published[0] / TABLE, error, "restore the index from a copy or build it anew") from error
    used = set(table.loc[table["origin"] == "upload", "path"])
    for file in (index / layout.UPLOADS).glob("*"):
        if f"{layout.UPLOADS}/{file.name}" not in used:
            file.unlink()


def writing(index: Path, wait: float | None = None, create: bool = False) -> AbstractContextManager[None]:
    """As `layout.writer`; where the work fails, what it left behind is removed at once."""
    return layout.writer(index, wait, create, tidy)


def write(index: Path, manifest: Manifest, draft: Draft, old: Opened | None) -> Manifest:
    """Writes and publishes the version after `old`; call as the writer. `draft.ids` are then the new items' ids.

    `manifest` says what is known beforehand; version, counts, facts and checksums are filled in.
    """
    manifest = replace(manifest, store=trusted(manifest.store, draft.store))
    store = open_store(manifest.store, manifest.uid)
    if old is not None and manifest.store == old.manifest.store:
        _settle_again(store, old)
    first = old.manifest.next_id if old is not None else 0
    manifest = replace(manifest, version=old.manifest.version + 1 if old else 1, next_id=first + len(draft.table))
    draft.ids = np.arange(first, manifest.next_id, dtype=np.int64)
    folder = layout.staging(index, manifest.version)
    kept = _kept(old, draft)
    vectors = np.empty((len(draft.table), manifest.dim), np.float32)
    table = pd.concat([kept, _new_rows(draft)], ignore_index=True)
    base = old.folder if old is not None and len(kept) else None
    table = thumbnails.write(folder, table, base, _filling(vectors, draft.pairs))
    if not len(table):
        raise UserError(f"nothing is left to index in {index}; none of the files can be read, or all were removed")
    texts = _texts(table)
    change = Change(draft.ids, vectors, draft.table, np.asarray(draft.gone, np.int64), _as_queries(texts, draft.model))
    manifest.facts = store.stage(folder, manifest.version, change, base)
    view = store.open(folder, manifest.version)
    small = base is not None and not draft.anew and len(draft.ids) + len(draft.gone) <= ANEW_AT * len(table)
    _map(table, view, vectors if small else None, draft.projection)
    if draft.model is not None and not small:
        manifest.calibration = calibrate(table["id"].to_numpy(), texts, view, draft.model)
    elif old is not None:
        manifest.calibration = old.manifest.calibration
    pq.write_table(to_arrow(table), folder / TABLE)
    np.save(folder / REMOVED, change.removed)
    manifest.count, manifest.created = len(table), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    ours = old is None or draft.anew or origin.made_here(old.manifest, old.folder)
    layout.publish(index, folder, manifest, origin.note if ours else None)
    store.settle(manifest.version, change)
    layout.prune(index)
    return manifest


def _texts(table: pd.DataFrame) -> list[str]:
    """What describes each item: its first text, or its label."""
    return [text[0] if len(text) else label for text, label in zip(table["text"], table["label"], strict=True)]


def _as_queries(texts: Sequence[str], model: Model | None) -> Callable[[], np.ndarray] | None:
    """Embeds QUERIES of the texts, by which a store can tune its search."""
    if model is None or model.text is None:
        return None
    known = sorted({text for text in texts if text.strip()})
    chosen = [known[row] for row in np.random.default_rng(4).permutation(len(known))[:QUERIES]]
    return lambda: model.embed_text(chosen) if chosen else np.zeros((0, model.dim), np.float32)


def _settle_again(store: Store, old: Opened) -> None:
    """The writer before may have died between publishing and settling."""
    removed = np.load(old.folder / REMOVED)
    if len(removed):
        empty = np.zeros((0, old.manifest.dim), np.float32)
        store.settle(old.manifest.version, Change(removed[:0], empty, old.table[:0], removed))


def _kept(old: Opened | None, draft: Draft) -> pd.DataFrame:
    if old is None:
        return _new_rows(replace(draft, table=draft.table[:0], ids=draft.ids[:0]))
    return old.table[~old.table["id"].isin(draft.gone)].reset_index(drop=True)


def _new_rows(draft: Draft) -> pd.DataFrame:
    rows = draft.table[[*COLUMNS, "origin"]].reset_index(drop=True)
    places = {"pack": np.int64(-1), "offset": np.int64(0), "length": np.int64(0)}
    return rows.assign(id=draft.ids, map_x=np.float32(np.nan), map_y=np.float32(np.nan), **places)


def _filling(vectors: np.ndarray, pairs: Iterable[tuple[np.ndarray, bytes]]) -> Iterator[bytes]:
    """The images of `pairs`; their embeddings are put into `vectors` in passing, so that both are read once."""
    for row, (vector, image) in enumerate(pairs):
        vectors[row] = vector
        yield image


def _map(table: pd.DataFrame, view: Vectors, new: np.ndarray | None, projection: str) -> None:
    """Fills `map_x`, `map_y`; `new` are the embeddings of the last rows when the others keep their places."""
    if new is not None:
        if not len(new):
            return
        known = np.flatnonzero(table["map_x"].notna().to_numpy()[: len(table) - len(new)])
        known = np.sort(np.random.default_rng(3).permutation(known)[:PLACED_BY])
        rows = np.arange(len(table) - len(new), len(table))
        old_places = table.loc[known, ["map_x", "map_y"]].to_numpy(np.float32)
        places = place(new, view.get(table["id"].to_numpy()[known]), old_places, seed=len(table))
    else:
        rows = np.sort(np.random.default_rng(2).permutation(len(table))[:MAPPED])
        places = project(view.get(table["id"].to_numpy()[rows]), projection)[0]
    both = (
        np.full((len(table), 2), np.nan, np.float32)
        if new is None
        else table[["map_x", "map_y"]].to_numpy(np.float32, copy=True)
    )
    both[rows] = places
    table["map_x"], table["map_y"] = both[:, 0], both[:, 1]
