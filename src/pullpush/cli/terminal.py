"""Text of users on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pullpush.escape import printable

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["plain"]


def plain(text: object, style: str = "") -> Text:
    """For rich's tables and consoles: neither markup nor control characters in it do anything."""
    from rich.text import Text  # when it is needed

    return Text(printable(text), style)
