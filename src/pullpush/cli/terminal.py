"""Text of users on a terminal: neither markup nor control characters in it do anything."""

from collections.abc import Iterable, Mapping
from numbers import Number
from typing import TYPE_CHECKING

from pullpush.escape import printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

__all__ = ["plain", "table"]


def plain(text: object, style: str = "") -> "Text":
    """For rich's tables and consoles."""
    from rich.text import Text  # when it is needed

    return Text(printable(text), style)


def table(title: str, rows: Iterable[Mapping[str, object]]) -> "Group":
    """Rows with the same columns under a title, which may be wider; numbers on the right; names are not broken."""
    from rich.console import Group
    from rich.table import Table

    shown = Table()
    for row in rows:
        for column, value in row.items() if not shown.columns else ():
            right = isinstance(value, Number)
            shown.add_column(plain(column), justify="right" if right else "left", no_wrap=column == "name")
        shown.add_row(*(plain(f"{value:g}" if isinstance(value, float) else value) for value in row.values()))
    return Group(plain(title, "italic"), shown)
