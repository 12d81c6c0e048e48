"""What the docs name is there: modules, functions and files."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "pullpush"
# The changelog names what is gone.
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {ROOT / "CHANGELOG.md"})
DOTTED = re.compile(r"(?<![\w/.@-])pullpush(?:\.[A-Za-z_]\w*)+")
# A file of the project by its path; those of runs, indexes and data sets have other suffixes or folders.
FILES = re.compile(r"(?<![\w/.~*{-])((?:[a-z_]+/)+[\w.-]*\w\.(?:py|md|yaml|sh|png|webp))\b")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
# Written by a person who follows the page, or by a run.
OTHERS = re.compile(r"(?:^|/)(?:(?:test_)?my_\w+|[A-Z]+|config|best)\.(?:py|yaml)$|^plots/")


def exists(name: str) -> bool:
    """Whether a dotted name can be imported, or is an attribute of what can."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


def missing(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    yield from sorted({name for name in DOTTED.findall(text) if "my_" not in name and not exists(name)})
    for file in sorted(set(FILES.findall(text))):
        places = (ROOT, SOURCE, page.parent, ROOT / "src")
        if not OTHERS.search(file) and not any((place / file).exists() for place in places):
            yield file
    yield from sorted({link for link in LINK.findall(text) if not (page.parent / link).exists()})


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_what_a_page_names_is_there(page: Path) -> None:
    assert list(missing(page)) == []


def test_a_name_that_is_gone_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`pullpush.data.opening`, `pullpush.data.items.Items`, `data/opening.py`, `data/items.py`, [x](gone.md)"
    )
    assert list(missing(page)) == ["pullpush.data.opening", "data/opening.py", "gone.md"]
