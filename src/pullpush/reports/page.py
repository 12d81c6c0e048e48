"""A page: a title, a lead and sections of blocks, written as one HTML file that opens without a network."""

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from pullpush.escape import readable
from pullpush.files import write_text
from pullpush.reports import style
from pullpush.reports.style import Drawing, Theme

__all__ = ["Block", "Page", "Section", "drawn"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One piece of a section: a figure, or of the others what is filled, in this order. `caption` may stand under any.

    Text in backticks and options of a `note`, which stands in a box, are shown as code. What only one page shows is a
    subclass with a template of its own, and with `scripted` where that has scripts.
    """

    template: ClassVar[str] = "block.html"
    scripted: ClassVar[bool] = False

    figure: Drawing | None = None
    alt: str = ""
    heading: str = ""
    text: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    wide: bool = False
    lines: Sequence[str] = ()
    code: str = ""
    note: str = ""
    caption: str = ""


def drawn(draw: Callable[[Theme], Figure], path: Path, caption: str, alt: str = "", *, write: bool = True) -> Block:
    """The block of a figure, which is drawn light and dark and saved to `path` (without `write`, only named by it); its
    caption is also its `alt` text."""
    return Block(figure=style.save(draw, path, write=write), caption=caption, alt=alt or caption)


@dataclass(frozen=True)
class Section:
    """A heading with its blocks; without a title it is not in the contents. `severity` stands above the title."""

    title: str
    blocks: Sequence[Block]
    id: str = ""
    lead: str = ""
    severity: str = ""

    @property
    def anchor(self) -> str:
        """Where the contents lead to: the id, or one made of the title."""
        return self.id or re.sub(r"\W+", "-", f"section {self.title.lower()}").strip("-")


@dataclass(frozen=True)
class Page:
    """What a page shows. `kind` is report, study, comparison or diagnosis; text in backticks of the footer is shown as
    code."""

    kind: str
    title: str
    lead: str
    sections: Sequence[Section]
    footer: Sequence[str] = ()

    def write(self, path: Path, cure: str = "") -> Path:
        """Writes the page to `path`, replacing an earlier one; blocks and sections with nothing in them are left out.

        Args:
            cure: what to do where it cannot be written.

        Returns:
            `path`.
        """
        filled = [replace(each, blocks=[b for b in each.blocks if any(vars(b).values())]) for each in self.sections]
        environment = Environment(
            loader=PackageLoader("pullpush.reports"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"data_uri": _image_uri, "typed": _typed}
        page = replace(self, sections=[section for section in filled if section.blocks])
        scripted = any(block.scripted for section in page.sections for block in section.blocks)
        html = environment.get_template("page.html").render(page=page, scripted=scripted)
        write_text(path, readable(html), cure)
        return path


def _image_uri(png: bytes) -> str:
    """An image as a data URI: as WebP where that is a third of the PNG or less (photographs), else untouched."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, "WEBP", quality=88)
    webp = stream.getvalue()
    kind, data = ("webp", webp) if 3 * len(webp) <= len(png) else ("png", png)
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def _typed(text: str) -> Markup:
    """What a person types, as code: options with their values, and what stands between backticks."""
    value = r"(?: (?:&#34;.+?&#34;|[\w.+-]*\w))?"
    marked = re.sub(rf"`([^`]+)`|(--[\w.]+{value})", r"<code>\1\2</code>", str(escape(text)))
    return Markup(marked)
