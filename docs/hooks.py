"""What mkdocs.yml leaves to Python: pages from outside of docs/, and stars in its navigation."""

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md")


def outside(name: str) -> str:
    """A page of the root folder, with links as from docs/."""
    return re.sub(r"\]\(docs/", "](", (ROOT / name).read_text(encoding="utf-8"))


def expanded(nav: Any, pages: list[str]) -> Any:
    """The navigation with each pattern replaced by the pages that it matches, but those that are named."""
    if isinstance(nav, dict):
        return {title: expanded(inner, pages) for title, inner in nav.items()}
    if not isinstance(nav, list):
        return nav
    named = {each for each in nav if isinstance(each, str)}
    out: list[Any] = []
    for each in nav:
        if isinstance(each, str) and "*" in each:
            out += [page for page in sorted(pages) if fnmatch(page, each) and page not in named]
        else:
            out.append(expanded(each, pages))
    return out


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for name in OUTSIDE:
        files.append(File.generated(config, name, content=outside(name)))
    config.nav = expanded(config.nav, [file.src_uri for file in files.documentation_pages()])
    return files
