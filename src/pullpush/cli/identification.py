"""pullpush enroll, pullpush identify"""

from json import dumps
from pathlib import Path

from pullpush.cli.terminal import plain
from pullpush.errors import UserError
from pullpush.escape import printable

__all__ = ["enroll", "identify"]


def enroll(
    gallery: str,
    classes: list[str],
    *,
    model: str | None = None,
    weights: list[str] | None = None,
    more: bool = False,
    store: str | None = None,
    json: bool = False,
) -> None:
    """Adds classes, such as people or products, to an index: each from one image or a few, without training.

    Afterwards pullpush identify says which of them an image shows.

    Args:
        gallery: the folder of an index; a new one needs --model.
        classes: NAME=IMAGE,IMAGE or NAME=FOLDER, as many as you like.
        model: the model of a new index: the folder of a run (runs/NAME) or of a model, or another library's model by
            its name, such as timm:resnet50 or hf:NAME (docs/models.md).
        weights: a file of weights to load into another library's model, or one of its parts.
        more: add images to classes that are there already.
        store: the address of the server that holds the vectors, if one does; or set PULLPUSH_STORE.
        json: print JSON instead of text: {NAME: [ids of its images]}.

    Examples:
        pullpush enroll indexes/people alice=alice.jpg bob=bob-1.jpg,bob-2.jpg --model runs/demo
        pullpush enroll indexes/people carol=photos/carol/
        pullpush enroll indexes/people alice=another.jpg --more
    """
    from pullpush import search
    from pullpush.encoders import load

    named: dict[str, list[str]] = {}
    for each in classes:
        name, images = _named(each)
        if name in named:
            raise UserError(f"the class {name!r} is given twice; give all its images at once: {name}=IMAGE,IMAGE")
        named[name] = images
    if weights and not model:
        raise UserError("--weights is of a --model of a library: name that too")
    begun = load(model, weights=weights) if model and weights else model
    ids = search.enroll(gallery, named, begun, more=more, store=store)
    if json:
        print(dumps(ids))
        return
    for name, items in ids.items():
        print(f"{printable(name)}: {len(items)} image{'s' if len(items) > 1 else ''}")


def identify(
    gallery: str,
    images: list[str],
    *,
    far: float | None = None,
    store: str | None = None,
    json: bool = False,
) -> None:
    """Says which class of an index each image shows, such as who it is, or unknown where none is close enough.

    Args:
        gallery: the folder of an index (pullpush enroll or pullpush index makes one).
        images: image files.
        far: how many strangers may be given a name by mistake, as a share (the false accept rate); by default 0.01, or
            where the index is too small to tell, the smallest that it can tell, up to 0.1.
        store: the address of the server that holds the vectors, if one does; or set PULLPUSH_STORE.
        json: print JSON instead of a table: a list of {image, name, closest, probability, score, threshold, far}; name
            is null for unknown.

    Examples:
        pullpush identify indexes/people photo.jpg
        pullpush identify indexes/people *.jpg --far 0.001 --json
    """
    from rich.console import Console
    from rich.table import Table

    from pullpush import search

    identities = search.open(gallery, store=store).identify(images, far)
    if json:
        print(dumps([{"image": image, **each.as_dict()} for image, each in zip(images, identities, strict=True)]))
        return
    first = identities[0]
    shown = Table(caption=plain(f"a name from a score of {first.threshold:.3f}: {first.far:g} of strangers get one"))
    for column in ("image", "name", "probability", "score", "closest"):
        shown.add_column(column, justify="right" if column in ("probability", "score") else "left")
    for image, each in zip(images, identities, strict=True):
        probability = "" if each.probability is None else f"{each.probability:.1%}"
        name = plain("unknown", "dim") if each.name is None else plain(each.name, "bold")
        shown.add_row(plain(image), name, probability, f"{each.score:.3f}", plain(each.closest))
    Console().print(shown)


def _named(given: str) -> tuple[str, list[str]]:
    """The name and the images of `NAME=IMAGE,IMAGE` or `NAME=FOLDER`."""
    from pullpush.images.files import find_images

    name, equals, value = given.partition("=")
    if not equals or not value:
        raise UserError(f"{given!r} must be NAME=IMAGE,IMAGE or NAME=FOLDER, such as alice=alice.jpg")
    if Path(value).is_dir():
        paths = [str(path) for path in find_images(Path(value))[0]]
        if not paths:
            raise UserError(f"there are no images in {value!r} for the class {name!r}")
        return name, paths
    return name, [value] if Path(value).exists() else [part for part in value.split(",") if part]
