"""Enrolment: a class from a few images, added to an index without training."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from pullpush.encoders import load
from pullpush.encoders.model import Model
from pullpush.errors import UserError
from pullpush.images import open_rgb, to_rgb
from pullpush.search import layout
from pullpush.search.changes import Ready, put
from pullpush.search.errors import BadQuery
from pullpush.search.layout import Manifest
from pullpush.search.staging import keep, staged
from pullpush.search.stores import DEFAULT
from pullpush.search.thumbnails import thumbnail
from pullpush.search.version import Opened, fitting, model_of, opened

__all__ = ["LONGEST", "check_name", "enroll", "put_classes"]

LONGEST = 200
"""Letters of the name of a class."""
SOURCE = "enrolled images alone"

ImageLike = str | os.PathLike[str] | Image.Image


def enroll(
    index: str | os.PathLike[str],
    classes: Mapping[str, ImageLike | Iterable[ImageLike]],
    model: Model | str | os.PathLike[str] | None = None,
    *,
    more: bool = False,
    wait: float | None = None,
    store: str | None = None,
) -> dict[str, list[int]]:
    """Adds classes to an index, each from one image or a few, which are kept in the index folder as PNG.

    All are added, or none. Where there is no index, `model` begins one.

    Args:
        index: the folder.
        classes: name -> its images, paths or PIL images.
        model: a run, a bundle or a loaded model; by default that of the index.
        more: the classes may be there already, and get these images besides.
        wait: seconds to wait for another writer (10).
        store: as of `open`.

    Returns:
        name -> the ids of its images. An image that its class has already keeps its id.

    Raises:
        UserError: a name is empty, taken (unless `more`) or no line of text; a class has no images; an image cannot be
            read, is given for two classes or belongs to another; the model is not the index's; or as of `add`.
    """
    index = Path(index)
    kept = {name: check_name(name) for name in classes}
    decoded = [(kept[name], image) for name, images in classes.items() for image in _decoded(name, images)]
    if not decoded:
        raise UserError("there is nobody to enrol; give a name and its images")
    loaded, begin = _model_of(index, model, store)
    vectors = loaded.embed([image for _, image in decoded])
    with staged(index, create=begin is not None) as folder:
        ready = [
            Ready(keep(image, folder), vector, thumbnail(image))
            for (_, image), vector in zip(decoded, vectors, strict=True)
        ]
        return put_classes(index, ready, [name for name, _ in decoded], loaded, more, wait, store, begin)


def put_classes(
    index: Path,
    images: Sequence[Ready],
    names: Sequence[str],
    model: Model,
    more: bool = False,
    wait: float | None = None,
    store: str | None = None,
    begin: Manifest | None = None,
) -> dict[str, list[int]]:
    """Enrols images that lie `staged`, `names` being the class of each. Returns and raises: as `enroll`."""

    def check(table: pd.DataFrame | None, paths: Sequence[str]) -> None:
        of = dict(zip(paths, names, strict=True))
        clash = next((name for path, name in zip(paths, names, strict=True) if of[path] != name), None)
        if clash is not None:
            raise BadQuery(f"an image is given for two classes, one of them {clash!r}; give each image to one")
        if table is None:
            return
        taken = table["label"].value_counts()
        there = next((name for name in names if name in taken.index), None)
        if there is not None and not more:
            raise BadQuery(
                f"the class {there!r} is there already, with {taken[there]} images; choose another name, or add to "
                "it with the option more"
            )
        for path, label, item in zip(table["path"], table["label"], table["id"], strict=True):
            if path in of and of[path] != label:
                raise BadQuery(
                    f"an image of {of[path]!r} is in the index already, as item {item} of "
                    f"{repr(label) if label else 'no class'}; remove that, or leave the image out"
                )

    about = [{"label": name, "category": "", "text": ""} for name in names]
    # the map of few items is drawn anew at each change, and UMAP takes seconds
    ids = put(index, images, model, about, wait, store, projection="pca", begin=begin, check=check)
    by_class: dict[str, list[int]] = {}
    for name, item in zip(names, ids, strict=True):
        if item not in by_class.setdefault(name, []):
            by_class[name].append(item)
    return by_class


def check_name(name: str) -> str:
    """The name of a class as it is kept, without blanks around it. Raises: `BadQuery` for one that cannot be one."""
    kept = name.strip()
    if not kept:
        raise BadQuery("the name of a class is empty; give a name, as in alice=photo.jpg")
    if len(kept) > LONGEST or not kept.isprintable():
        raise BadQuery(f"the name of a class is one line of at most {LONGEST} letters, not {kept[:40]!r}")
    if kept.lower() == "unknown":
        raise BadQuery("a class cannot be called 'unknown', which is the answer where nobody is known; choose another")
    return kept


def _decoded(name: str, images: ImageLike | Iterable[ImageLike]) -> list[Image.Image]:
    given = [images] if isinstance(images, str | os.PathLike | Image.Image) else list(images)
    if not given:
        raise UserError(f"the class {name!r} has no images; give one or more")
    return [to_rgb(image) if isinstance(image, Image.Image) else open_rgb(image) for image in given]


def _model_of(
    index: Path, model: Model | str | os.PathLike[str] | None, store: str | None
) -> tuple[Model, Manifest | None]:
    """The model, and the record of an index that is to be begun."""
    loaded = load(model) if isinstance(model, str | os.PathLike) else model
    if (index / layout.POINTER).exists():
        version = opened(index, Opened)
        return model_of(version) if loaded is None else fitting(index, version.manifest, loaded), None
    if loaded is None:
        raise UserError(f"there is no index in {index}; name the model to begin one with: --model RUN")
    return loaded, Manifest(
        fingerprint=loaded.fingerprint,
        dim=loaded.dim,
        model=loaded.source,
        weights=list(loaded.weights),
        text=loaded.text is not None,
        source=SOURCE,
        store=store or DEFAULT,
    )
