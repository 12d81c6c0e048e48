"""The notebooks of examples/: what is committed was executed as it stands, and executes again."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
from tools.notebooks import NOTEBOOKS, execute  # noqa: E402

NAMES = ("quick-start", "own-loop", "diagnosis", "search")
QUICKEST = "diagnosis"
MOST = 400_000
"""Bytes of a file, so that a git host shows it."""
OF_A_MACHINE = re.compile(r"/(?:home|root|tmp|var|usr|opt|work|Users)/|[A-Z]:\\\\")


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell: Any) -> str:
    """The words of all outputs, without images."""
    texts = [each.get("text", "") for each in cell.outputs]
    texts += [
        each.data.get(kind, "") for each in cell.outputs if "data" in each for kind in ("text/plain", "text/html")
    ]
    return re.sub(r"base64,[^\"]+", "", "\n".join(texts))


def kinds(notebook: Any) -> list[list[tuple[str, ...]]]:
    """What each cell shows, and as what."""
    return [[(each.output_type, *sorted(each.get("data", ()))) for each in cell.outputs] for cell in code(notebook)]


def test_no_notebook_is_left_out() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(NAMES)
    listed = (Path(__file__).parents[1] / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert all(f"{name}.ipynb" in listed for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_was_executed_as_it_stands(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < MOST
    assert notebook.cells[0].source.startswith("# ")
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert {each.output_type for each in cell.outputs} <= {"display_data", "execute_result", "stream"}  # no error
        assert not OF_A_MACHINE.search(said(cell))
        last = ast.parse(re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE)).body[-1]
        assert bool(cell.outputs) == isinstance(last, ast.Expr), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_notebook(name: str) -> None:
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (NOTEBOOKS / link).exists(), link


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == QUICKEST else [pytest.mark.slow]) for name in NAMES]
)
def test_it_executes_and_shows_the_same_kinds_of_things(name: str) -> None:
    assert kinds(execute(NOTEBOOKS / f"{name}.ipynb")) == kinds(read(name))
