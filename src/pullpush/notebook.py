"""What objects show of themselves in a notebook: HTML, where a terminal gets a line."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from numbers import Number
from typing import Any

from pullpush.escape import readable

__all__ = ["lines", "table", "thumbnails"]

SIDE = 72
"""Pixels of the longer side of an image."""
LEFT = ' style="text-align:left"'


def table(rows: Iterable[Mapping[str, Any]], caption: str = "") -> str:
    """Rows as a table, a column a key of the first; numbers with four digits, words at the left of their column."""
    rows = list(rows)
    if not rows:
        return lines([caption]) if caption else ""
    sides = {name: "" if isinstance(value, Number) else LEFT for name, value in rows[0].items()}
    head = "".join(f"<th{side}>{_text(name)}</th>" for name, side in sides.items())
    cells = ("".join(f"<td{side}>{_cell(row.get(name))}</td>" for name, side in sides.items()) for row in rows)
    body = "".join(f"<tr>{each}</tr>" for each in cells)
    title = f"<caption>{_text(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def lines(texts: Sequence[str]) -> str:
    """Each text as it stands, a paragraph."""
    return "".join(f"<p>{_text(text)}</p>" for text in texts)


def thumbnails(images: Iterable[tuple[Any, str]]) -> str:
    """PIL images, each with a line below it, in a row that wraps."""
    shown = []
    for image, text in images:
        small, data = image.copy(), io.BytesIO()
        small.thumbnail((SIDE, SIDE))
        small.save(data, "PNG")
        source = base64.b64encode(data.getvalue()).decode()
        caption = f'<figcaption style="overflow-wrap:anywhere;font-size:smaller">{_text(text)}</figcaption>'
        image_tag = f'<img src="data:image/png;base64,{source}" alt="{_text(text)}" style="max-width:100%">'
        shown.append(f'<figure style="width:{SIDE + 16}px;margin:4px">{image_tag}{caption}</figure>')
    return f'<div style="display:flex;flex-wrap:wrap">{"".join(shown)}</div>'


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else _text(value)


def _text(value: object) -> str:
    return escape(readable(value))
