"""The site of `make site`: every page in the navigation, every public name in the reference, no link into nothing."""

import importlib
import importlib.util
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from mkdocs.config import load_config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MODULES = [
    "pullpush",
    *(f"pullpush.{name}" for name in ("losses", "miners", "regularizers", "relations", "similarities", "errors")),
    *(f"pullpush.{name}" for name in ("criterion", "encoders", "evaluation", "training", "doctor", "search", "server")),
    *(f"pullpush.{name}" for name in ("export", "reports", "studies", "board")),
]


class Page(HTMLParser):
    """What a page refers to, and the places in it that can be referred to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.references.add(value)
            elif name == "id" and value:
                self.anchors.add(value)


def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(nav: Any) -> Iterator[str]:
    for each in nav.values() if isinstance(nav, dict) else nav:
        yield from [each] if isinstance(each, str) else leaves(each)


def broken(folder: Path) -> list[str]:
    """Internal references of all pages that lead nowhere, with the page that has them."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    out = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are absolute: it is shown for any address
        for reference in sorted(page.references):
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and target in pages and unquote(parts.fragment) not in known):
                out.append(f"{path.relative_to(folder.resolve())}: {reference}")
    return out


def test_every_page_is_in_the_navigation_once() -> None:
    nav = load_config(str(ROOT / "mkdocs.yml")).nav
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")] + list(hooks().OUTSIDE)
    assert sorted(leaves(hooks().expanded(nav, pages))) == sorted(pages)


def test_the_list_of_pages_names_them_all() -> None:
    listed = (DOCS / "README.md").read_text(encoding="utf-8")
    assert [
        path.name for path in sorted(DOCS.glob("*.md")) if f"({path.name}" not in listed and path.name != "README.md"
    ] == []


def test_no_link_leads_nowhere(site: Path) -> None:
    assert len(list(site.rglob("*.html"))) > 90
    assert broken(site) == []


def test_a_link_that_leads_nowhere_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<a href="a.html#x">a</a><a href="b.html">b</a><img src="c.png"><a href="#y">y</a>'
    )
    (tmp_path / "a.html").write_text('<p id="y">')
    assert broken(tmp_path) == ["index.html: #y", "index.html: a.html#x", "index.html: b.html", "index.html: c.png"]


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    listed = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    known = {line.split(" ")[0] for line in listed}
    missing = []
    for name in MODULES:
        module = importlib.import_module(name)
        for public in module.__all__:
            thing = getattr(module, public)
            own = f"{getattr(thing, '__module__', None)}.{getattr(thing, '__qualname__', None)}"
            if not known & {f"{name}.{public}", own} and public != "__version__" and not isinstance(thing, ModuleType):
                missing.append(f"{name}.{public}")
    assert missing == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Pages, scripts and styles of the site name no other host for something to load."""
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not [mark for mark in ('src="http', 'src="//', '<link rel="stylesheet" href="http') if mark in text], (
            path
        )


def test_a_loss_is_shown_as_a_person_makes_it(site: Path) -> None:
    """With its options and without the rectangle of the later call; and its figure in both themes."""
    shown = (site / "reference" / "losses.html").read_text(encoding="utf-8")
    circle = shown.partition('id="pullpush.losses.circle"')[2].partition('id="pullpush.losses.contrastive"')[0]
    text = re.sub(r"<[^>]+>", "", circle)
    assert re.search(r"circle\(\s*\*,\s*margin: CosineMargin = 0.4,\s*scale: Positive = 80.0,", text)
    assert "Parameters:" in text
    assert "Source: Sun et al." in text
    assert "rectangle" not in text
    assert "Returns:" not in text
    page = (site / "losses" / "circle.html").read_text(encoding="utf-8")
    assert all(f'src="images/circle{twin}"' in page for twin in (".png#only-light", "-dark.png#only-dark"))
