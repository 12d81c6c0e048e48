"""Characters in the fonts of this machine, or of a folder: a character is a class, a font an instance of it."""

import string
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pullpush.bounds import Bound
from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.images import find_images
from pullpush.images.files import MAX_BYTES, keep_images
from pullpush.names import look_up
from pullpush.progress import counted

__all__ = ["read_glyphs"]

PLACES = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts"),
)
COLLECTIONS = (".ttc", ".otc")
SUFFIXES = (".ttf", ".otf", *COLLECTIONS)
CHARACTERS = {
    "digits": string.digits,
    "latin": string.ascii_letters,
    "greek": "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηθικλμνξοπρστυφχψω",
    "cyrillic": "".join(map(chr, range(0x410, 0x450))),
}
ABSENT = "\U0010ffff"
"""No font has this character: what is drawn for it is what a font draws for those that it lacks (.notdef)."""
FULL = 0.9
"""Share of the image's height between a font's highest and lowest line."""

KINDS = {"Lu": "capital letter", "Ll": "small letter", "Nd": "digit"}
BASIC = ImageFont.Layout.BASIC
"""The layout that is the same everywhere."""


class Glyph(NamedTuple):
    """A character in a font, drawn: pixels uint8 [size, size]."""

    character: str
    font: str
    family: str
    pixels: NDArray[np.uint8]


def read_glyphs(
    *,
    root: str | Path | None = None,
    characters: str = "digits+latin",
    size: Annotated[int, Bound(8, 512, unit="pixels")] = 64,
    by: Literal["character", "font"] = "character",
) -> Items:
    """Black glyphs on white, each font at the size at which its lines fit the image, so that o, O and 0 stay apart.

    What a font lacks is left out, and so are characters that it draws alike (a font that has capitals only): nothing
    could tell them apart. Fonts of the same name count once. The same fonts give the same images.

    Args:
        root: A folder of fonts (.ttf, .otf, .ttc, .otc); by default those that are installed.
        characters: `digits`, `latin`, `greek`, `cyrillic`, or several joined by +; or the characters themselves.
        size: Side of the images in pixels.
        by: What a class is: a `character`, its fonts being the domains, or a `font`, its characters being these.

    Raises:
        UserError: no fonts, or too few glyphs for two classes.
    """
    wanted, files, left_out = _characters(characters), _files(root), Counter[str]()
    seen: set[str] = set()
    shown = counted(files, "drawing glyphs", len(files), "fonts", each=lambda _: 1)
    glyphs = [glyph for file in shown for glyph in _glyphs(file, wanted, size, left_out, seen)]
    classes = {glyph.character if by == "character" else glyph.font for glyph in glyphs}
    if len(classes) < 2:
        raise UserError(
            f"{len(files)} files of fonts give {len(glyphs)} glyphs of {len(classes)} class; two classes or more are "
            "needed: give other --data.characters, or a folder with more fonts (--root DIR)"
        )
    pixels = np.stack([glyph.pixels for glyph in glyphs])
    if pixels.nbytes > MAX_BYTES:
        raise UserError(f"{len(glyphs):,} glyphs of {size} pixels are too many: lower --data.size or --data.characters")
    drawn = [glyph.character for glyph in glyphs]
    fonts = [glyph.font for glyph in glyphs]
    if by == "character":
        labels, domain = drawn, fonts
        text = [[unicodedata.name(character, character).lower()] for character in drawn]
        category = [KINDS.get(unicodedata.category(character), "sign") for character in drawn]
    else:
        labels, domain, text, category = fonts, drawn, [[font] for font in fonts], [glyph.family for glyph in glyphs]
    notes = [f"{number:,} {what} are left out" for what, number in left_out.items()]
    paths = keep_images("glyphs", pixels)
    return Items.build("glyphs", paths, labels, notes, domain=domain, text=text, category=category)


def _characters(characters: str) -> str:
    """The characters, each once: of the sets that are named, or those that are given."""
    names = [name.strip() for name in characters.split("+")]
    if CHARACTERS.keys() & set(names):
        characters = "".join(look_up("set of characters", name, CHARACTERS) for name in names)
    return "".join(dict.fromkeys(character for character in characters if not character.isspace()))


def _files(root: str | Path | None) -> list[str]:
    places = [Path(place).expanduser() for place in PLACES] if root is None else [Path(root)]
    files = sorted({file for place in places if place.is_dir() for file in find_images(place, SUFFIXES)[0]})
    if not files:
        raise UserError(
            f"there are no fonts ({', '.join(SUFFIXES)}) in {' or '.join(map(str, places))}: install some (Debian: "
            "apt install fonts-dejavu) or name a folder of fonts with root (--root DIR)"
        )
    return files


def _glyphs(file: str, wanted: str, size: int, left_out: Counter[str], seen: set[str]) -> Iterator[Glyph]:
    """What the fonts of a file draw; counts what it leaves out."""
    for font in _fonts(file, size, left_out):
        family, style = (part or "" for part in font.getname())
        name = f"{family} {style}".strip()
        if name in seen:
            left_out["fonts of the same name as another"] += 1
            continue
        seen.add(name)
        try:
            drawn = {character: _drawn(font, character, size) for character in (ABSENT, *wanted)}
        except (OSError, ValueError):
            left_out["fonts that cannot be drawn"] += 1
            continue
        absent, blank = drawn.pop(ABSENT).tobytes(), b"\xff" * size * size
        alike = Counter(pixels.tobytes() for pixels in drawn.values())
        for character, pixels in drawn.items():
            if pixels.tobytes() in (absent, blank):
                left_out["glyphs that their font lacks"] += 1
            elif alike[pixels.tobytes()] > 1:
                left_out["glyphs that their font draws for another character too"] += 1
            else:
                yield Glyph(character, name, family, pixels)


def _fonts(file: str, size: int, left_out: Counter[str]) -> Iterator[ImageFont.FreeTypeFont]:
    """The fonts of a file (a collection has several), at the size at which their lines fit the image."""
    for index in count() if file.lower().endswith(COLLECTIONS) else range(1):
        try:
            height = sum(ImageFont.truetype(file, size, index, layout_engine=BASIC).getmetrics())
            yield ImageFont.truetype(file, FULL * size * size / height, index, layout_engine=BASIC)
        except (OSError, ValueError, ZeroDivisionError):
            if not index:  # else it was the last of a collection
                left_out["files that are no font with outlines"] += 1
            return


def _drawn(font: ImageFont.FreeTypeFont, character: str, size: int) -> NDArray[np.uint8]:
    """Black on white, in the middle, on the line."""
    image = Image.new("L", (size, size), 255)
    line = (1 - FULL) / 2 * size + font.getmetrics()[0]
    ImageDraw.Draw(image).text((size / 2, line), character, 0, font, anchor="ms")
    return np.asarray(image)
