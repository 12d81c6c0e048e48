"""What a page of the documentation says, for tests that run it: its Python and its tables."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = ["DOCS", "blocks", "in_float64", "names", "printed", "section", "tables"]

DOCS = Path(__file__).parents[2] / "docs"


def section(page: str, title: str) -> str:
    """The text below a heading of the second level, up to the next one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.split(r"^## ", text.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str) -> list[str]:
    """The Python of a text, block by block."""
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a text: the cells of their rows, without the head."""
    found = re.findall(r"^\|.*\|\n\| ---.*\|\n((?:\|.*\|\n)+)", text, flags=re.MULTILINE)
    return [[[cell.strip() for cell in row[1:-1].split(" | ")] for row in rows.splitlines()] for rows in found]


def names(cell: str) -> list[str]:
    """What stands between backticks, up to its arguments."""
    return [re.split(r"\W", code)[0] for code in re.findall(r"`([^`]+)`", cell)]


def printed(*codes: str) -> list[tuple[object, ...]]:
    """Runs blocks one after the other in one namespace. What they print, as it was given to `print`."""
    lines: list[tuple[object, ...]] = []
    space = {"print": lambda *values: lines.append(values)}
    for code in codes:
        exec(code, space)
    return lines


@contextmanager
def in_float64() -> Iterator[None]:
    """Within it, what is made is of double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
