"""From a model and images to an index."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pullpush.data.items import Items
from pullpush.encoders import load
from pullpush.encoders.model import Model
from pullpush.encoders.pretrained import short_name
from pullpush.errors import UserError
from pullpush.images import open_rgb
from pullpush.progress import plan, showing, work
from pullpush.search import layout
from pullpush.search.embedding import Journal, embed, keys_of
from pullpush.search.layout import INDEXES, Manifest
from pullpush.search.source import COLUMNS, KEYS, read_source
from pullpush.search.stores import DEFAULT, declared, trusted
from pullpush.search.stores.base import FILTERS, recall_in_words
from pullpush.search.version import Draft, Opened, drop_leftovers, fitting, opened, owner, write

__all__ = ["Report", "build_index"]


@dataclass
class Report:
    """What a build did.

    Attributes:
        index: the folder.
        count: items that the index has now.
        added, changed, removed, kept: of these, and of those before.
        seconds: that it took.
        facts: what the store reports.
        unreadable: path and reason of files that are not in the index.
    """

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


def build_index(
    model: str | os.PathLike[str] | Model,
    source: str | os.PathLike[str] | Items,
    out: str | os.PathLike[str] | None = None,
    *,
    store: str | None = None,
    dim: int | None = None,
    projection: str = "umap",
    rebuild: bool = False,
    batch_size: int = 64,
    progress: bool = False,
) -> Report:
    """Builds an index of `source`, or brings the one in `out` up to date: only new and changed images are embedded.

    Args:
        model: A run folder, a model bundle, the name of a library's model (`open_clip:FOLDER`), or a loaded `Model`.
        source: A folder of images, the name of a data set, a manifest, or `Items`.
        out: The index folder; by default `indexes/NAME of the run`.
        store: `faiss` (the default; the kind is chosen by size) or the address of another store (docs/search.md). An
            existing index keeps its own; a server must be named each time, here or by the environment variable
            PULLPUSH_STORE.
        dim: Dimensions of the embeddings, of items as of queries, as `model.embed(..., dim=dim)` gives them; by default
            all, or those that an existing index has.
        projection: The map: `umap`, `pca` or `none`.
        rebuild: Embed everything anew, also with another model or source; until that is done the old version is served.
        batch_size: Images embedded at a time.
        progress: Show a bar with rate and time left.

    Stopped at any point, the old version stays, and the same command continues. Unreadable files are reported and
    passed over. Images that were added by hand (`add`) stay, and those that were removed by hand stay out.

    Returns:
        What was done.

    Raises:
        UserError: the index is of another model, source or store, or has other dimensions (unless `rebuild`), another
            process writes it, the source or the store is unknown, or the model has fewer dimensions.
    """
    started = time.perf_counter()
    loaded = (load(model) if isinstance(model, str | os.PathLike) else model).reduced(dim)
    name = loaded.source
    index = Path(out) if out is not None else INDEXES / (short_name(name) or "index")
    with showing(progress), work("reading the source"):
        items, wanted, label = read_source(source)
    with layout.writer(index, create=True, tidy=drop_leftovers):
        old = _checked(index, label, store, rebuild)
        if old is not None and not rebuild:
            loaded = fitting(index, old.manifest, loaded, dim)
        wanted, open_row = _wanted(index, items, wanted, old, rebuild)
        fresh, gone, before = _difference(old if not rebuild else None, wanted)
        new = len(fresh) - len({key for key in wanted["key"].iloc[fresh]} & before)
        named = store or (old.manifest.store if old is not None else DEFAULT)
        with showing(progress):
            plan(
                f"index {len(wanted):,} images of {label}: {new:,} new, {len(fresh) - new:,} changed, "
                f"{len(wanted) - len(fresh):,} unchanged",
                f"{loaded.dim} dimensions, store {named}; written to {index}",
            )
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
            weights=list(loaded.weights) if name else known.weights,
            text=loaded.text is not None,
            source=label,
            store=store or known.store or DEFAULT,
            unreadable=[[file, reason] for file, reason in bad],
        )
        if old is None or len(rows) or len(gone):
            with showing(progress), work("writing the index"):
                manifest = write(index, manifest, draft, old)
        journal.clear()
    changed = 0 if rebuild else len({keys[row][0] for row in rows} & before)
    removed = 0 if rebuild else len(gone) - changed
    kept = manifest.count - len(rows)
    seconds = time.perf_counter() - started
    return Report(index, manifest.count, len(rows) - changed, changed, removed, kept, seconds, manifest.facts, bad)


def _checked(index: Path, source: str, store: str | None, rebuild: bool) -> Opened | None:
    """The published version. Raises: `UserError`, before the long work, for another source or store."""
    old = opened(index, Opened) if (index / layout.POINTER).exists() else None
    drop_leftovers(index)
    trusted(store or (old.manifest.store if old is not None else DEFAULT), store)
    if old is None or rebuild:
        return old
    manifest = old.manifest
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
