"""Icons that many sets draw: what several icon sets call by the same name is a class, a set's drawing an instance."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from pullpush.bounds import Bound
from pullpush.data.items import Items
from pullpush.data.workers import by_chunks
from pullpush.errors import UserError
from pullpush.extras import need
from pullpush.files import locked, read_json
from pullpush.files.cache import cache_folder
from pullpush.files.write import replacing_folder
from pullpush.images.files import idx_writer
from pullpush.progress import counted

__all__ = ["read_iconify"]

PACKAGE = "@iconify/json"
LARGEST = 1 << 30
"""Bytes of a set."""
VIEW = {"left": 0, "top": 0, "width": 16, "height": 16}
"""The part of the plane that is drawn, where neither icon nor set says otherwise."""
WAIT = 3600.0
"""Seconds that a command waits for another one which draws the same icons."""


class Icon(NamedTuple):
    """An icon of a set; `label` is its name without what the set says of styles and sizes."""

    label: str
    prefix: str
    name: str
    category: str


class Drawing(NamedTuple):
    """An icon as it is drawn; `place` is its row in an archive."""

    icon: Icon
    digest: bytes
    place: str


def read_iconify(
    *,
    root: str | Path | None = None,
    sets: Annotated[int, Bound(2, 100)] = 4,
    size: Annotated[int, Bound(8, 512, unit="pixels")] = 64,
    classes: Annotated[int, Bound(0, 1_000_000)] = 0,
) -> Items:
    """Icons of the npm package `@iconify/json`, drawn on white, what takes its colour from the text in black.

    A class is a name that `sets` sets or more have. Sets say which prefixes and suffixes of their names are styles and
    sizes (`-outline`, `-24-filled`): a name is taken without them, and of each set its plainest form, so a set has one
    drawing a class at most. `domain` is the set's prefix, `text` the name in words, `category` the set's own.

    Sets come in versions and weights, and copy each other. What looks the same, pixel by pixel, counts once in a class
    and is left out where another class has it too: a model could only guess. So are sets whose licence forbids
    commercial use, animations (of which a part is seen at rest), and what is blank on white.

    All classes are drawn once, by worker processes, and kept in the cache folder.

    Args:
        root: The folder of the package; by default where `npm install --prefix CACHE/iconify` puts it.
        sets: How many sets must have a name.
        size: Side of the images in pixels.
        classes: How many classes; always the same ones, drawn by the hash of their names. 0: all.

    Raises:
        UserError: the package or the renderer is missing, or no name is in enough sets.
    """
    package = _package(root)
    version = str(read_json(package / "package.json").get("version", ""))
    kept = cache_folder("iconify").absolute() / f"{version}-{sets}-{size}"
    if not kept.exists():
        need("icons")
        busy = f"process {{holder}} is drawing these icons: wait for it, or remove {kept}.lock"
        with locked(f"{kept}.lock", busy, wait=WAIT):
            if not kept.exists():
                _draw(package, kept, sets, size)
    items = Items.load(kept / "items.parquet")
    if Path(items.path(0)).parent != kept:  # the cache was moved
        items = items.assign(path=[str(kept / Path(path).name) for path in items.table["path"]])
    return _first(items, classes) if 0 < classes < len(items.classes) else items


def _package(root: str | Path | None) -> Path:
    prefix = cache_folder("iconify")
    package = prefix / "node_modules" / PACKAGE if root is None else Path(root)
    if not (package / "collections.json").is_file():
        raise UserError(
            f"the npm package {PACKAGE} is not in {package}: npm install --prefix {prefix} {PACKAGE} (104 MB), or name "
            "its folder with root (--root DIR)"
        )
    return package


def _first(items: Items, classes: int) -> Items:
    """The classes whose names have the lowest hashes, numbered anew."""
    hashes = [blake2b(name.encode()).digest() for name in items.classes]
    labels = sorted(sorted(range(len(hashes)), key=hashes.__getitem__)[:classes])
    chosen = items.select(np.isin(items.table["label"].to_numpy(), labels))
    table = chosen.table.assign(id=np.arange(len(chosen)), label=np.searchsorted(labels, chosen.table["label"]))
    notes = [*items.notes, f"these are {classes:,} of {len(items.classes):,} classes"]
    return Items(table, [items.classes[label] for label in labels], items.name, notes)


def _draw(package: Path, kept: Path, sets: int, size: int) -> None:
    """Draws all classes into the folder `kept`: what is grey into one archive, what is coloured into another."""
    left_out = Counter[str]()
    icons = _wanted(package, sets, left_out)
    drawings: dict[tuple[str, bytes], Drawing] = {}
    with replacing_folder(kept) as folder:
        with (
            idx_writer(folder / "grey-ubyte", (size, size)) as grey,
            idx_writer(folder / "colour-ubyte", (size, size, 3)) as colour,
        ):
            chunks = by_chunks(partial(_images, package, icons, size), len(icons), "drawing icons")
            for icon, image in zip(icons, chain.from_iterable(chunks), strict=True):
                if isinstance(image, str):
                    left_out[image] += 1
                elif (key := (icon.label, blake2b(image, digest_size=16).digest())) in drawings:
                    left_out["drawings that look the same as another of their class"] += 1
                elif len(image) == size * size:
                    drawings[key] = Drawing(icon, key[1], f"grey-ubyte#{grey(image)}")
                else:
                    drawings[key] = Drawing(icon, key[1], f"colour-ubyte#{colour(image)}")
        chosen = _chosen(list(drawings.values()), left_out)
        labels = [drawing.icon.label for drawing in chosen]
        if len(set(labels)) < 2:
            raise UserError(f"fewer than two names are in {sets} sets of {package}: lower --data.sets")
        notes = [f"{number:,} {what} are left out" for what, number in left_out.items() if number]
        columns: dict[str, Any] = {
            "domain": [drawing.icon.prefix for drawing in chosen],
            "text": [[label] for label in labels],
            "category": [drawing.icon.category for drawing in chosen],
        }
        items = Items.build("iconify", [str(kept / each.place) for each in chosen], labels, notes, **columns)
        items.save(folder / "items.parquet")


def _chosen(drawings: list[Drawing], left_out: Counter[str]) -> list[Drawing]:
    """Without what looks the same as a drawing of another class, and without what then is alone in its class."""
    alike = Counter(drawing.digest for drawing in drawings)
    unlike = [drawing for drawing in drawings if alike[drawing.digest] == 1]
    count = Counter(drawing.icon.label for drawing in unlike)
    chosen = [drawing for drawing in unlike if count[drawing.icon.label] > 1]
    left_out["drawings that look the same as one of another class"] = len(drawings) - len(unlike)
    left_out["drawings that then are alone in their class"] = len(unlike) - len(chosen)
    return chosen


def _wanted(package: Path, sets: int, left_out: Counter[str]) -> list[Icon]:
    """The icons whose names are in enough sets, set by set."""
    icons: list[Icon] = []
    for file in counted(_files(package, left_out), "reading icon sets", None, "sets", each=lambda _: 1):
        icons += _icons(_read(file), left_out)
    count = Counter(icon.label for icon in icons)
    return [icon for icon in icons if count[icon.label] >= sets]


def _files(package: Path, left_out: Counter[str]) -> Iterator[Path]:
    collections = read_json(package / "collections.json")
    for file in sorted((package / "json").glob("*.json")):
        licence = collections.get(file.stem, {}).get("license", {}).get("spdx")
        if licence is None:
            left_out["sets that the package no longer lists"] += 1
        elif "-NC" in licence:
            left_out["sets whose licence forbids commercial use"] += 1
        else:
            yield file


def _icons(content: Mapping[str, Any], left_out: Counter[str]) -> list[Icon]:
    """An icon a name of a set: the one with the fewest letters beside the name, the first in the order of names."""
    prefixes = [f"{part}-" for part in content.get("prefixes", {}) if part]
    suffixes = [f"-{part}" for part in content.get("suffixes", {}) if part]
    category = {name: title for title, names in reversed(content.get("categories", {}).items()) for name in names}
    plainest: dict[str, str] = {}
    for name in sorted(content["icons"], key=lambda name: (len(name), name)):
        body = content["icons"][name]["body"]
        if "<animate" in body or "<set " in body:
            left_out["animations"] += 1
        else:
            plainest.setdefault(_words(name, prefixes, suffixes), name)
    return [Icon(label, content["prefix"], name, category.get(name, "")) for label, name in plainest.items()]


def _words(name: str, prefixes: list[str], suffixes: list[str]) -> str:
    name = name.removeprefix(max((part for part in prefixes if name.startswith(part)), key=len, default=""))
    name = name.removesuffix(max((part for part in suffixes if name.endswith(part)), key=len, default=""))
    return " ".join(name.split("-"))


def _images(package: Path, icons: list[Icon], size: int, rows: range) -> list[bytes | str]:
    """The pixels of some icons, [size, size] or [size, size, 3]; or what they are, where they are left out."""
    return [_image(_read(package / "json" / f"{icons[row].prefix}.json"), icons[row].name, size) for row in rows]


@lru_cache(maxsize=1)
def _read(file: Path) -> dict[str, Any]:
    """A set. Icons come set by set, so it is read once in each process."""
    content: dict[str, Any] = read_json(file, {"prefix": str, "icons": dict}, f"install {PACKAGE} again", LARGEST)
    return content


def _image(content: Mapping[str, Any], name: str, size: int) -> bytes | str:
    import resvg_py

    icon = content["icons"][name]
    view = quoteattr(" ".join(str(icon.get(side, content.get(side, other))) for side, other in VIEW.items()))
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'<svg {names} viewBox={view} width="{size}" height="{size}" color="black">{icon["body"]}</svg>'
    try:
        # Fonts of this machine would give other images elsewhere.
        png = resvg_py.svg_to_bytes(svg_string=svg, background="white", skip_system_fonts=True)
    except ValueError:
        return "icons that cannot be drawn"
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    if (pixels == 255).all():
        return "icons that are blank on white"
    return (pixels[..., 0] if (pixels == pixels[..., :1]).all() else pixels).tobytes()
