"""The stamps of Tux Paint: photographs and drawings of things, with texts in many languages."""

import os
from collections import Counter
from pathlib import Path

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.files import read_text
from pullpush.images import find_images

__all__ = ["read_stamps"]

PLACES = ("/usr/share/tuxpaint/stamps", "/usr/local/share/tuxpaint/stamps", "~/.tuxpaint/stamps")
"""Looked in where no root is given: the Debian package's, and the user's own."""
TURNED = ("_mirror", "_flip")
"""How the names of copies end that are mirrored or upside down."""
TRANSLATED = ".utf8="


def read_stamps(*, root: str | Path | None = None, language: str = "en") -> Items:
    """The PNG images of `tuxpaint-stamps-default`; a class is a folder, two levels deep at most (`animals/birds`).

    `category` is the folder at the top. `text` says what is seen, in English and more than 80 other languages. Copies
    that are mirrored or upside down are left out, and so are drawings in SVG.

    Args:
        root: The folder of the stamps; by default the usual places are tried (Debian: `apt install
            tuxpaint-stamps-default`).
        language: Of the texts (`de`, `pt_BR`), several joined by commas, or `all`; where an image has none in these,
            English.

    Raises:
        UserError: no stamps there, or no text in the language.
    """
    folder = _folder(root)
    files, skipped = find_images(folder, (".png",))
    paths = [file for file in files if not os.path.splitext(file)[0].endswith(TURNED)]
    if not paths:
        raise UserError(f"{folder} holds no stamps (PNG images): name another folder with root (--root DIR)")
    places = [Path(path).relative_to(folder).parts[:-1] for path in paths]
    texts = [_texts(Path(path).with_suffix(".txt")) for path in paths]
    wanted = _languages(language, Counter(code for each in texts for code in each))
    left_out = {"copies that are mirrored or upside down": len(files) - len(paths), "drawings in SVG": skipped[".svg"]}
    notes = [f"{number:,} {what} are left out" for what, number in left_out.items() if number]
    text = [_chosen(each, wanted) for each in texts]
    notes += [f"{text.count([]):,} images have no text"] if [] in text else []
    category, classes = [place[0] if place else "" for place in places], ["/".join(place[:2]) for place in places]
    return Items.build("stamps", paths, classes, notes, category=category, text=text)


def _folder(root: str | Path | None) -> Path:
    places = [Path(place).expanduser() for place in PLACES] if root is None else [Path(root)]
    for place in places:
        if place.is_dir():
            return place
    raise UserError(
        f"there is no folder {' or '.join(map(str, places))}; install the stamps of Tux Paint (Debian: apt install "
        "tuxpaint-stamps-default) or name their folder with root (--root DIR)"
    )


def _texts(file: Path) -> dict[str, str]:
    """Language -> text: the first line is the English one, others are `de.utf8=...`."""
    if not file.is_file():
        return {}
    first, *others = [line.strip() for line in read_text(file).split("\n")]
    translated = (line.partition(TRANSLATED) for line in others if TRANSLATED in line)
    return {
        code: text for code, text in [("en", first), *((code, text.strip()) for code, _, text in translated)] if text
    }


def _languages(language: str, known: Counter[str]) -> list[str]:
    if language == "all":
        return list(known)
    wanted = [code.strip() for code in language.split(",")]
    for code in wanted:
        if code not in known:
            raise UserError(f"no stamp has a text in {code!r}; --data.language takes {', '.join(sorted(known))} or all")
    return wanted


def _chosen(texts: dict[str, str], wanted: list[str]) -> list[str]:
    """The texts in these languages, each once, else the English one."""
    named = [texts[code] for code in wanted if code in texts] or [text for text in [texts.get("en")] if text]
    return list(dict.fromkeys(named))
