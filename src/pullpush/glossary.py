"""What the numbers mean, in plain words: one text, `numbers.md`, for the docs, the report and the pages of the servers.

A second-level heading begins a group, a third-level one a number, with what it says, what is good or bad, and when not
to trust it.
"""

import re
from importlib.resources import files

from markdown_it import MarkdownIt

__all__ = ["TITLE", "groups", "html", "page", "source"]

TITLE = "What do these numbers mean?"
LINK = re.compile(r"\[([^\]]+)\]\(([\w-]+\.md)\)")

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="/page/glossary.css">
</head>
<body class="glossary">
<main>
{text}
</main>
</body>
</html>
"""


def source() -> str:
    """The text, as Markdown; its links lead to other pages of the docs."""
    return (files("pullpush") / "numbers.md").read_text(encoding="utf-8")


def groups() -> dict[str, str]:
    """The groups by title, as Markdown; the first, "", begins the text."""
    parts = re.split(r"^## (.+)$", source().partition("\n")[2], flags=re.MULTILINE)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def html(markdown: str) -> str:
    """As HTML without links: what shows it must do without the docs beside it, and names them instead."""
    named = LINK.sub(r"\1 (`docs/\2`)", markdown)
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(named))


def page() -> str:
    """The text as a page in the style of the server that shows it."""
    return PAGE.format(title=TITLE, text=html(source()))
