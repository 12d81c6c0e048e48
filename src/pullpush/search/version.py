"""Writing the next version of an index: the table, thumbnails, map, calibration and store, published as one."""

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import hexdigits
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pullpush.encoders import load
from pullpush.encoders.hub import cache_only
from pullpush.encoders.model import Model
from pullpush.encoders.pretrained import is_library_name
from pullpush.errors import UserError
from pullpush.evaluation.projection import place, project
from pullpush.files import damaged, read_text, write_text
from pullpush.files.arrays import read_npy
from pullpush.files.tables import from_arrow, read_parquet, to_arrow
from pullpush.names import fresh
from pullpush.search import layout, origin, staging, thumbnails
from pullpush.search.calibration import calibrate
from pullpush.search.layout import Manifest
from pullpush.search.source import COLUMNS
from pullpush.search.stores import Change, Store, Vectors, open_store, trusted

__all__ = ["TABLE", "Draft", "Opened", "drop_leftovers", "fitting", "model_of", "opened", "owner", "write"]

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


class Opened:
    """The published version, its table and record checked; made by `opened`.

    Raises: `NoIndex` where nothing is published; `UserError` where it is damaged; `FileNotFoundError` where a writer
    removes it meanwhile.
    """

    def __init__(self, index: Path) -> None:
        self.index = index
        self.stamp = layout.stamp(index)  # before it is read: a later version than it says is never missed
        published = layout.current(index)
        if published is None:
            raise layout.no_index(index)
        self.folder, self.manifest = published
        layout.verify(self.folder, self.manifest, skip=thumbnails.PREFIX)
        self.table = from_arrow(pq.read_table(self.folder / TABLE))
        origin.check_uploads(index, self.table["path"], self.table["origin"])


Kind = TypeVar("Kind", bound=Opened)


@dataclass
class Draft:
    """What the next version adds and what it leaves out.

    Attributes:
        table: `source.COLUMNS` and `origin` (`source` or `upload`), a row an item that is added.
        pairs: embedding and thumbnail of each of its rows.
        gone: ids to remove.
        model: to calibrate with, None where it is not at hand.
        projection: of the map: `umap`, `pca` or `none`.
        anew: draw the map anew, rather than place the new items into the old one.
        store: what the user named, see `stores.trusted`.
        ids: of the rows, once the version is written.
    """

    table: pd.DataFrame
    pairs: Iterable[tuple[np.ndarray, bytes]]
    gone: np.ndarray
    model: Model | None = None
    projection: str = "umap"
    anew: bool = False
    store: str | None = None
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


def opened(index: Path, kind: Callable[[Path], Kind]) -> Kind:
    """The published version, as `kind` opens it.

    Raises: `NoIndex` where there is none; `UserError` where it is damaged.
    """
    for _ in range(5):  # writers may replace the version twice, and so remove it, while it is opened
        with suppress(FileNotFoundError):
            return kind(index)
    raise UserError(f"files of {index} are missing; {layout.CURE}")


def fitting(index: Path, manifest: Manifest, model: Model, dim: int | None = None) -> Model:
    """The model, with as many dimensions as the index has.

    Args:
        index: the folder.
        manifest: its record.
        model: with these dimensions, or all.
        dim: dimensions that somebody asked for.

    Raises:
        UserError: the index was made by another model, whose embeddings cannot be compared, or has other dimensions.
    """
    if dim not in (None, manifest.dim):
        raise UserError(
            f"{index} holds embeddings of {manifest.dim} dimensions, not of {dim}; choose another folder, or build "
            "again with rebuild"
        )
    fits = model.reduced(manifest.dim) if manifest.dim <= model.dim else model
    if fits.fingerprint != manifest.fingerprint:
        raise UserError(
            f"{index} was built with the model {manifest.fingerprint[:12]} ({manifest.model or 'no path'}), not with "
            f"{model.fingerprint[:12]}; embeddings of two models cannot be compared. Use that model, or build "
            f"again with rebuild."
        )
    return fits


def model_of(version: Opened) -> Model:
    """The model of a published version, loaded from where it was when that was written.

    Nothing is downloaded because an index that was made elsewhere says so.

    Raises:
        UserError: it had no path, it is gone, or is another one now.
    """
    manifest = version.manifest
    if not manifest.model:
        raise UserError(
            f"{version.index} was built with a model that had no path; give it: open({str(version.index)!r}, model=...)"
        )
    ours = not is_library_name(manifest.model) or origin.made_here(manifest, version.folder)
    with nullcontext() if ours else cache_only():
        return fitting(version.index, manifest, load(manifest.model, weights=manifest.weights or None))


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


def drop_leftovers(index: Path) -> None:
    """Removes what a writer that did not finish left behind: unpublished versions, and images that no item names.
    Call as the writer."""
    layout.drop_unfinished(index)
    staging.clean(index)
    published = layout.current(index)
    if published is None:
        return
    table = read_parquet(published[0] / TABLE, ("path", "origin"), cure=layout.CURE)
    used = set(table.loc[table["origin"] == "upload", "path"])
    for file in (index / layout.UPLOADS).glob("*"):
        if f"{layout.UPLOADS}/{file.name}" not in used:
            file.unlink()


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
    ours = old is None or draft.anew or origin.made_here(old.manifest, old.folder)
    with layout.publishing(index, manifest, origin.note if ours else None) as folder:
        change = _fill(folder, manifest, draft, old, store)
    store.settle(manifest.version, change)
    layout.prune(index)
    return manifest


def _fill(folder: Path, manifest: Manifest, draft: Draft, old: Opened | None, store: Store) -> Change:
    """Writes the files of a version into `folder`, and what is known only then into `manifest`."""
    kept = _new_rows(draft)[:0] if old is None else old.table[~old.table["id"].isin(draft.gone)]
    table = pd.concat([kept, _new_rows(draft)], ignore_index=True)
    base = old.folder if old is not None and len(kept) else None
    vectors = np.empty((len(draft.table), manifest.dim), np.float32)
    table = thumbnails.write(folder, table, base, _filling(vectors, draft.pairs))
    if not len(table):
        raise UserError("nothing is left to index; none of the files can be read, or all were removed")
    # What describes an item: its first text, or its label.
    texts = [text[0] if len(text) else label for text, label in zip(table["text"], table["label"], strict=True)]
    change = Change(draft.ids, vectors, draft.table, np.asarray(draft.gone, np.int64), _as_queries(texts, draft.model))
    manifest.facts = store.stage(folder, manifest.version, change, base)
    view = store.open(folder, manifest.version)
    small = base is not None and not draft.anew and len(draft.ids) + len(draft.gone) <= ANEW_AT * len(table)
    _map(table, view, vectors if small else None, draft.projection)
    if draft.model is not None and not small:
        manifest.calibration = calibrate(table["id"].to_numpy(), texts, view, draft.model)
    if draft.model is not None:
        manifest.decision = draft.model.decision.values() if draft.model.decision is not None else {}
        manifest.rerank = draft.model.rerank.values() if draft.model.rerank else {}
    pq.write_table(to_arrow(table), folder / TABLE)
    np.save(folder / REMOVED, change.removed)
    manifest.count, manifest.created = len(table), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return change


def _as_queries(texts: Sequence[str], model: Model | None) -> Callable[[], np.ndarray] | None:
    """Embeds QUERIES of the texts, by which a store can tune its search."""
    if model is None or model.text is None:
        return None
    known = sorted({text for text in texts if text.strip()})
    chosen = [known[row] for row in np.random.default_rng(4).permutation(len(known))[:QUERIES]]
    return lambda: model.embed_text(chosen) if chosen else np.zeros((0, model.dim), np.float32)


def _settle_again(store: Store, old: Opened) -> None:
    """The writer before may have died between publishing and settling."""
    removed = read_npy(old.folder / REMOVED)
    if len(removed):
        empty = np.zeros((0, old.manifest.dim), np.float32)
        store.settle(old.manifest.version, Change(removed[:0], empty, old.table[:0], removed))


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
    ids, places = table["id"].to_numpy(), table[["map_x", "map_y"]].to_numpy(np.float32, copy=True)
    if new is None:
        rows = np.sort(np.random.default_rng(2).permutation(len(table))[:MAPPED])
        places[:] = np.nan
        places[rows] = project(view.get(ids[rows]), projection)[0]
    elif len(new):
        first = len(table) - len(new)
        known = np.flatnonzero(table["map_x"].notna().to_numpy()[:first])
        known = np.sort(np.random.default_rng(3).permutation(known)[:PLACED_BY])
        places[first:] = place(new, view.get(ids[known]), places[known], seed=len(table))
    table["map_x"], table["map_y"] = places[:, 0], places[:, 1]
