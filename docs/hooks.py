"""What mkdocs.yml leaves to Python: pages from outside of docs/, stars in its navigation, and images of two themes."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
IMAGE = re.compile(r'<img [^>]*src="([^"]+?)(\.\w+)"[^>]*>')
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md")
NOTEBOOKS = ROOT / "examples" / "notebooks"
# What pandas says of the look of its tables, which is that of the site.
STYLED = re.compile(r'<style.*?</style>| class="dataframe"| border="1"', re.DOTALL)


def outside(name: str) -> str:
    """A page of the root folder, with links as from docs/."""
    return re.sub(r"\]\(docs/", "](", (ROOT / name).read_text(encoding="utf-8"))


def notebook(path: Path) -> str:
    """A notebook with its outputs as a page, with links as from docs/notebooks/."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\(([\w-]+)\.ipynb\)", r"](\1.md)", source.replace("](../../docs/", "](../")))
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [shown(output.get("data", {}), output.get("text", ())) for output in cell["outputs"]]
    return "\n\n".join(parts)


def shown(data: dict[str, Any], printed: list[str]) -> str:
    """One output: its image, else its HTML, else its text."""
    if "image/png" in data:
        return f'<img src="data:image/png;base64,{"".join(data["image/png"]).strip()}" alt="">'
    if "text/html" in data:
        html = STYLED.sub("", "".join(data["text/html"]))
        return f'<div class="output">{" ".join(line.strip() for line in html.splitlines())}</div>'
    text = "".join(data.get("text/plain", printed)).rstrip()
    return f"```text\n{text}\n```"


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
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=notebook(path)))
    config.nav = expanded(config.nav, [file.src_uri for file in files.documentation_pages()])
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """On the site the notebooks are pages beside the others."""
    return re.sub(r"\]\(\.\./examples/notebooks/([\w-]+)\.ipynb\)", r"](notebooks/\1.md)", markdown)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Where an image has a twin NAME-dark beside it, the dark theme shows that one."""
    folder = Path(config.docs_dir, page.file.src_uri).parent

    def both(image: re.Match[str]) -> str:
        source, suffix = image.groups()
        if not (folder / f"{source}-dark{suffix}").exists():
            return image[0]
        twins = (f"{source}{suffix}#only-light", f"{source}-dark{suffix}#only-dark")
        return "".join(image[0].replace(source + suffix, twin) for twin in twins)

    return IMAGE.sub(both, html)
