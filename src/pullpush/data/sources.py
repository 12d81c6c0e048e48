"""One door to all data: a name, a folder or a manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from pullpush.bounds import check
from pullpush.data.benchmarks import counts
from pullpush.data.folder import folder_images, read_folder
from pullpush.data.items import Items
from pullpush.data.manifest import manifest_images, read_manifest
from pullpush.data.readers import MANIFESTS, PLACES, gathered, imported
from pullpush.errors import UserError
from pullpush.images.formats import SUFFIXES as IMAGES
from pullpush.names import did_you_mean
from pullpush.progress import work
from pullpush.signatures import of

__all__ = ["compare_with_published", "open_images", "open_items"]


def open_items(source: str | Path | Items, *, root: str | Path | None = None, **options: Any) -> Items:
    """Reads a data set.

    Args:
        source: A name (a file of `sets/`), a folder of class folders, a manifest (.csv, .tsv, .parquet), or Items,
            which are given back.
        root: Where a named data set lies; what the paths of a manifest are relative to.
        options: The reader's own options (the keyword arguments of `read_emoji`, `read_folder`, ...).

    Raises:
        UserError: unknown source (with the nearest name), unknown option, or what the reader finds wrong.
    """
    if isinstance(source, Items):
        return source
    name, path = str(source), Path(source).expanduser()
    reader: Callable[..., Items]
    first: tuple[Path, ...]
    if name in PLACES:
        reader, first, label = imported(PLACES[name]), (), name
    elif path.is_dir():
        reader, first, label = read_folder, (path,), "a folder"
    elif path.suffix.lower() in MANIFESTS:
        reader, first, label = read_manifest, (path,), "a manifest"
    else:
        raise UserError(_unknown(name, path))
    known = of(reader).own()
    if root is not None:
        if "root" not in known:
            raise UserError(f"{label} has no option root: leave out --root {str(root)!r}")
        options["root"] = Path(root).expanduser()
    for option in options:
        if option not in known:
            hint = f"{did_you_mean(option, known, '', '{!r}')} its options: {', '.join(known) or 'none'}".strip()
            raise UserError(f"{label} has no option {option!r}; {hint}")
    options = {k: check(f"{k} of {label}", value, known[k].annotation) for k, value in options.items()}
    with work(f"reading {name}"):
        return reader(*first, **options)


def open_images(source: str | Path, *, root: str | Path | None = None, **options: Any) -> Items:
    """Images of which no classes are needed: any folder, one image file, a manifest, or a named data set.

    Args and Raises as of `open_items`; where there are no classes, the one class has no name.
    """
    path = Path(source).expanduser()
    with work(f"reading {source}"):
        if str(source) in PLACES or (not path.is_dir() and path.suffix.lower() not in (*MANIFESTS, *IMAGES)):
            return open_items(source, root=root, **options)
        if path.suffix.lower() in MANIFESTS:
            return manifest_images(path, root=root, **options)
        if options or root is not None:
            raise UserError(f"{source} has no options: leave out --options and --root")
        return folder_images(path) if path.is_dir() else Items.build(path.stem, [str(path)], [""])


def compare_with_published(items: Items) -> pd.DataFrame | None:
    """`part, what, published, found, missing` for a data set whose numbers are published (before `split_by_class`),
    else None."""
    expected = gathered("PUBLISHED").get(items.name)
    if expected is None:
        return None
    read = counts(items)
    rows = [
        (part, what, published, number := read.get(part, {}).get(what, 0), published - number)
        for part, numbers in expected.items()
        for what, published in numbers.items()
    ]
    return pd.DataFrame(rows, columns=["part", "what", "published", "found", "missing"])


def _unknown(name: str, path: Path) -> str:
    if path.is_file():
        return f"{name} is a file; data are a folder of class folders or a manifest ({', '.join(MANIFESTS)})"
    hint = did_you_mean(name.lower().replace("_", "-"), PLACES, "", "{!r}")
    known = f"{hint} known data sets: {', '.join(PLACES)}".strip()
    cure = "or give a folder that is there, with a sub-folder for each class, or a CSV or Parquet file"
    return f"there is no data set, folder or manifest called {name!r}; {known}; {cure}"
