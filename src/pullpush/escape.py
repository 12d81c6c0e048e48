"""Text of users, made fit to be shown: names of files and classes hold whatever bytes their makers liked."""

import re

__all__ = ["printable", "readable"]

# All that moves the cursor, colours, rings or turns the direction of writing; line breaks and tabs stay.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: object) -> str:
    r"""For a terminal or a figure: control characters (ANSI escapes, too) are shown as `\x1b`, and so on."""
    return _CONTROL.sub(_shown, str(text))


def readable(text: object) -> str:
    r"""Valid Unicode, for names, tables and pages: a byte that is no UTF-8 is shown as `\xe9`."""
    text = str(text)
    return text if text.isascii() else _SURROGATE.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    code = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code  # how Python keeps a byte that is no UTF-8
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
