"""Changes of an index by hand: images that are added, items that are removed."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pullpush.encoders.model import Model
from pullpush.errors import UserError
from pullpush.files import sync
from pullpush.images import open_rgb, to_rgb
from pullpush.search import layout
from pullpush.search.errors import BadQuery, NoItem
from pullpush.search.layout import Manifest
from pullpush.search.staging import keep, staged
from pullpush.search.thumbnails import thumbnail
from pullpush.search.version import Draft, Opened, drop_leftovers, fitting, model_of, opened, owner, write

__all__ = ["Ready", "add", "put", "remove", "tidy"]


@dataclass(frozen=True)
class Ready:
    """An image that can be added.

    Attributes:
        file: its PNG in a folder of `staged`, named by the checksum of its pixels.
        vector: its embedding, float32 `[dim]`.
        thumbnail: WebP.
    """

    file: Path
    vector: np.ndarray
    thumbnail: bytes


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
    """Adds images by hand. They are kept in the index folder as PNG, and stay in later builds.

    Args:
        index: the folder.
        images: paths or PIL images.
        model: that embeds them; by default that of the index.
        label, category, text: of all of them.
        wait: seconds to wait for another writer (10).
        store: as of `open`.

    Returns:
        Their ids. An image that was added before is not added again, and keeps its id.

    Raises:
        UserError: there is no index, an image cannot be read, the model is another than the index's, another process is
            still writing, or the disk is full; then nothing is added.
    """
    index = Path(index)
    decoded = [to_rgb(image) if isinstance(image, Image.Image) else open_rgb(image) for image in images]
    version = opened(index, Opened)
    loaded = model_of(version) if model is None else fitting(index, version.manifest, model)
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
    """Adds images that lie `staged`.

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

    Returns:
        Their ids; those that were added before keep theirs.

    Raises:
        UserError: as of `add`.
    """
    with layout.writer(index, wait, create=begin is not None, tidy=drop_leftovers):
        old = opened(index, Opened) if begin is None or (index / layout.POINTER).exists() else None
        if old is not None:
            fitting(index, old.manifest, model)
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
    """Removes items by id. The files of the source stay, but later builds pass them over.

    Args:
        index: the folder.
        ids: of the items.
        wait: seconds to wait for another writer (10).
        store: as of `open`.

    Returns:
        How many were removed.

    Raises:
        UserError: an id is not there (the first is named), no item would be left, or as of `add`; then nothing is
            removed.
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
