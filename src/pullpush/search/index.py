"""From a model and images to an index, and changes of it."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pullpush.data.items import Items
from pullpush.encoders import bundle
from pullpush.encoders.model import Model
from pullpush.errors import UserError
from pullpush.files import sync
from pullpush.images import open_rgb, to_rgb
from pullpush.progress import showing, work
from pullpush.search import layout
from pullpush.search.embedding import Journal, embed, keys_of
from pullpush.search.errors import BadQuery, NoItem
from pullpush.search.layout import Manifest
from pullpush.search.source import COLUMNS, KEYS, read_source
from pullpush.search.staging import keep, staged
from pullpush.search.stores import DEFAULT, declared, trusted
from pullpush.search.stores.base import FILTERS, recall_in_words
from pullpush.search.thumbnails import thumbnail
from pullpush.search.version import Draft, Opened, drop_leftovers, opened, owner, write

__all__ = ["Ready", "Report", "add", "build_index", "check_fingerprint", "default_index", "put", "remove", "tidy"]

INDEXES = Path("indexes")


def default_index(folder: str | os.PathLike[str] = INDEXES) -> Path:
    """The index in `folder` that was published last.

    Raises: `UserError` when there is none.
    """
    indexes = [path.parent for path in Path(folder).glob(f"*/{layout.POINTER}")]
    if not indexes:
        raise UserError(
            f"there is no index in {folder}; build one with: pullpush index RUN --images FOLDER, or name one"
        )
    return max(indexes, key=lambda index: (index / layout.POINTER).stat().st_mtime_ns)


@dataclass
class Report:
    """What a build did. `unreadable` lists (path, reason) of files that are not in the index."""

    index: Path
    count: int
    added: int
    changed: int
    removed: int
    kept: int
    seconds: float
    facts: dict[str, Any]
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        parts = f"{self.added} new, {self.changed} changed, {self.removed} removed, {self.kept} unchanged"
        recall = recall_in_words(self.facts)
        lines = [
            f"{self.index}: {self.count} items ({parts}) in {self.seconds:.1f} s",
            f"store: {self.facts.get('kind')}{', ' if recall else ''}{recall}",
        ]
        lines += [f"passed over: {path}: {reason}" for path, reason in self.unreadable[:20]]
        if len(self.unreadable) > 20:
            lines.append(f"... and {len(self.unreadable) - 20} more that cannot be read")
        return "\n".join(lines)


@dataclass(frozen=True)
class Ready:
    """An image that can be added: its PNG under the checksum of its pixels in a folder of `staged`, its embedding,
    its thumbnail."""

    file: Path
    vector: np.ndarray
    thumbnail: bytes


def build_index(
    model: str | os.PathLike[str] | Model,
    source: str | os.PathLike[str] | Items,
    out: str | os.PathLike[str] | None = None,
    *,
    store: str | None = None,
    projection: str = "umap",
    rebuild: bool = False,
    batch_size: int = 64,
    progress: bool = False,
) -> Report:
    """Builds an index of `source`, or brings the one in `out` up to date: only new and changed images are embedded.

    Args:
        model: A run folder, a model bundle, or a loaded `Model`.
        source: A folder of images, the name of a data set, a manifest, or `Items`.
        out: The index folder; by default `indexes/NAME of the run`.
        store: `faiss` (the default; the kind is chosen by size) or the address of another store (docs/search.md). An
            existing index keeps its own; a server must be named each time, here or by the environment variable
            PULLPUSH_STORE.
        projection: The map: `umap`, `pca` or `none`.
        rebuild: Embed everything anew, also with another model or source; until that is done the old version is served.
        batch_size: Images embedded at a time.
        progress: Show a bar with rate and time left.

    Stopped at any point, the old version stays, and the same command continues. Unreadable files are reported and
    passed over. Images that were added by hand (`add`) stay, those that were removed by hand stay away.

    Raises: `UserError` when the index is of another model, source or store (unless `rebuild`), when another process
    writes it, and for an unknown source or store.
    """
    started = time.perf_counter()
    loaded = bundle.load(model) if isinstance(model, str | os.PathLike) else model
    name = os.path.abspath(model) if isinstance(model, str | os.PathLike) else ""
    run = Path(name).parent if Path(name).name == "model" else Path(name)
    index = Path(out) if out is not None else INDEXES / (run.name or "index")
    with showing(progress), work("reading the source"):
        items, wanted, label = read_source(source)
    with layout.writer(index, create=True, tidy=drop_leftovers):
        old = _checked(index, loaded, label, store, rebuild)
        wanted, open_row = _wanted(index, items, wanted, old, rebuild)
        fresh, gone, before = _difference(old if not rebuild else None, wanted)
        journal = Journal(index / layout.BUILDING, loaded.fingerprint)
        embed(loaded, open_row, wanted, fresh, journal, batch_size, progress)
        keys = keys_of(wanted)
        rows = [row for row in fresh if keys[row] not in journal.unreadable]
        bad = [(wanted["path"][row], journal.unreadable[keys[row]]) for row in fresh if keys[row] in journal.unreadable]
        if rebuild and old is not None:
            gone = old.table["id"].to_numpy()
        pairs = journal.read([keys[row] for row in rows])
        draft = Draft(wanted.iloc[rows], pairs, gone, loaded, projection, rebuild, store)
        known = old.manifest if old is not None else Manifest(uid=owner(index))
        manifest = replace(
            known,
            fingerprint=loaded.fingerprint,
            dim=loaded.dim,
            model=name or known.model,
            text=loaded.text is not None,
            source=label,
            store=store or known.store or DEFAULT,
            unreadable=[[file, reason] for file, reason in bad],
        )
        if old is None or len(rows) or len(gone):
            manifest = write(index, manifest, draft, old)
        journal.clear()
    changed = 0 if rebuild else len({keys[row][0] for row in rows} & before)
    removed = 0 if rebuild else len(gone) - changed
    kept = manifest.count - len(rows)
    seconds = time.perf_counter() - started
    return Report(index, manifest.count, len(rows) - changed, changed, removed, kept, seconds, manifest.facts, bad)


def add(
    index: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str] | Image.Image],
    model: Model | None = None,
    *,
    label: str = "",
    category: str = "",
    text: str = "",
    wait: float | None = None,
    store: str | None = None,
) -> list[int]:
    """Adds images by hand and returns their ids. They are kept in the index folder as PNG, and stay in later builds.

    An image that was added before is not added again: its id is returned. `wait`: seconds to wait for another writer
    (10). `store`: as of `open`.

    Raises: `UserError` when there is no index, an image cannot be read, the model is another than the index's, another
    process is still writing, or the disk is full; then nothing is added.
    """
    index = Path(index)
    decoded = [to_rgb(image) if isinstance(image, Image.Image) else open_rgb(image) for image in images]
    manifest = opened(index, Opened).manifest
    loaded = model if model is not None else bundle.load(manifest.model)
    check_fingerprint(index, manifest, loaded)
    vectors = loaded.embed(decoded)
    with staged(index) as folder:
        ready = [
            Ready(keep(image, folder), vector, thumbnail(image)) for image, vector in zip(decoded, vectors, strict=True)
        ]
        about = [{"label": label, "category": category, "text": text}] * len(ready)
        return put(index, ready, loaded, about, wait, store)


def put(
    index: Path,
    images: Sequence[Ready],
    model: Model,
    about: Sequence[Mapping[str, str]],
    wait: float | None = None,
    store: str | None = None,
    *,
    projection: str = "umap",
    begin: Manifest | None = None,
    check: Callable[[pd.DataFrame | None, Sequence[str]], None] | None = None,
) -> list[int]:
    """Adds images that lie `staged`, and returns their ids. Those that were added before keep their ids.

    Args:
        index: the folder.
        images: to add.
        model: that embedded them.
        about: `label`, `category` and `text` of each.
        wait: seconds to wait for another writer.
        store: as of `open`.
        projection: of the map, where so much is added that it is drawn anew.
        begin: the record of an index that is begun where there is none.
        check: is told of the table before (None where there is none) and the paths of the images, and may raise.

    Raises: as `add`.
    """
    with layout.writer(index, wait, create=begin is not None, tidy=drop_leftovers):
        old = opened(index, Opened) if begin is None or (index / layout.POINTER).exists() else None
        if old is not None:
            check_fingerprint(index, old.manifest, model)
        known = old.table if old is not None else None
        paths = [f"{layout.UPLOADS}/{image.file.name}.png" for image in images]
        if check is not None:
            check(known, paths)
        ids = dict(zip(known["path"], known["id"], strict=True)) if known is not None else {}
        new = [row for row, path in enumerate(paths) if path not in ids and path not in paths[:row]]
        if new:
            frame = pd.DataFrame([{"path": paths[row], **about[row]} for row in new])
            frame["text"] = [[text] if text else [] for text in frame["text"]]
            frame = frame.assign(key=frame["path"], size=0, mtime=0, domain="", split="")
            pairs = ((images[row].vector, images[row].thumbnail) for row in new)
            draft = Draft(frame.assign(origin="upload"), pairs, np.zeros(0, np.int64), model, projection, store=store)
            record = old.manifest if old is not None else replace(begin or Manifest(), uid=owner(index))
            back = [path for path in record.excluded if path not in paths]
            (index / layout.UPLOADS).mkdir(exist_ok=True)  # alone: where the index is gone, this is an error
            for row in new:
                sync(images[row].file)
                os.replace(images[row].file, index / paths[row])
            write(index, replace(record, excluded=back), draft, old)
            ids.update(zip(frame["path"], draft.ids, strict=True))
    return [int(ids[path]) for path in paths]


def remove(
    index: str | os.PathLike[str], ids: Sequence[int], *, wait: float | None = None, store: str | None = None
) -> int:
    """Removes items by id and returns how many. The files of the source stay, but later builds pass them over.

    Raises: `UserError` naming the first id that is not there, and as `add` does; then nothing is removed. An index
    keeps at least one item.
    """
    index = Path(index)
    with layout.writer(index, wait, tidy=drop_leftovers):
        old = opened(index, Opened)
        gone = old.table[old.table["id"].isin(list(ids))]
        missing = sorted(set(map(int, ids)) - set(gone["id"]))
        if missing:
            raise NoItem(f"{index} has no item {missing[0]}; nothing was removed")
        if len(gone) == len(old.table):
            raise BadQuery("an index keeps at least one item; this would remove the last")
        if len(gone):
            from_source = gone["origin"] == "source"
            excluded = sorted({*old.manifest.excluded, *gone.loc[from_source, "path"]})
            draft = Draft(old.table[:0], (), gone["id"].to_numpy(), store=store)
            write(index, replace(old.manifest, excluded=excluded), draft, old)
            for path in gone.loc[~from_source, "path"]:
                (index / path).unlink(missing_ok=True)
    return len(gone)


def tidy(index: str | os.PathLike[str]) -> None:
    """Removes what a killed writer left behind, unless somebody is writing just now or the folder cannot be written."""
    with suppress(UserError, OSError), layout.writer(Path(index), wait=0):
        drop_leftovers(Path(index))


def check_fingerprint(index: Path, manifest: Manifest, model: Model) -> None:
    """Raises: `UserError` when the index was made by another model, whose embeddings cannot be compared."""
    if model.fingerprint != manifest.fingerprint:
        raise UserError(
            f"{index} was built with the model {manifest.fingerprint[:12]} ({manifest.model or 'no path'}), not with "
            f"{model.fingerprint[:12]}; embeddings of two models cannot be compared. Use that model, or build "
            f"again with rebuild."
        )


def _checked(index: Path, model: Model, source: str, store: str | None, rebuild: bool) -> Opened | None:
    """The published version. Raises: `UserError`, before the long work, for another model, source or store."""
    old = opened(index, Opened) if (index / layout.POINTER).exists() else None
    drop_leftovers(index)
    trusted(store or (old.manifest.store if old is not None else DEFAULT), store)
    if old is None or rebuild:
        return old
    manifest = old.manifest
    check_fingerprint(index, manifest, model)
    moved = declared(manifest.store).remote and (store or "").partition(":")[0] == manifest.store.partition(":")[0]
    given = [("source", manifest.source, source), *([] if moved else [("store", manifest.store, store)])]
    for what, known, wanted in given:
        if wanted not in (None, known):
            raise UserError(
                f"{index} was built with the {what} {known}, not {wanted}; choose another folder, or build again with "
                "rebuild"
            )
    return old


def _wanted(
    index: Path, items: Items, wanted: pd.DataFrame, old: Opened | None, rebuild: bool
) -> tuple[pd.DataFrame, Callable[[int], Image.Image]]:
    """The rows that should be in the index, and how to open one. A rebuild also reads what was added by hand."""
    wanted = wanted.assign(origin="source", row=np.arange(len(wanted)))
    if old is not None:
        wanted = wanted[~wanted["path"].isin(old.manifest.excluded)]
        if rebuild:
            uploads = old.table[old.table["origin"] == "upload"]
            wanted = pd.concat([wanted, uploads[[*COLUMNS, "origin"]].assign(row=-1)])
    wanted = wanted.reset_index(drop=True)

    def open_row(row: int) -> Image.Image:
        place = int(wanted["row"].iat[row])
        return items.open(place) if place >= 0 else open_rgb(index / wanted["path"].iat[row])

    return wanted, open_row


def _difference(old: Opened | None, wanted: pd.DataFrame) -> tuple[list[int], np.ndarray, set[str]]:
    """Row numbers to embed, ids to remove, and the keys whose image or text changed."""
    if old is None:
        return list(range(len(wanted))), np.zeros(0, np.int64), set()
    known = old.table[old.table["origin"] == "source"]
    before, after = _identities(known), _identities(wanted)
    there, here = set(before), set(after)
    fresh = [row for row, identity in enumerate(after) if identity not in there]
    gone = np.array([identity not in here for identity in before], bool)
    return fresh, known["id"].to_numpy()[gone], set(known["key"][gone])


def _identities(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    texts = ["\n".join(text) for text in table["text"]]
    return list(zip(*(table[name] for name in (*KEYS, *FILTERS)), texts, strict=True))
