"""Executes the notebooks of examples/ in place, each in an empty folder of its own.

python tools/notebooks.py [NAME ...]
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

__all__ = ["NOTEBOOKS", "execute"]

NOTEBOOKS = Path(__file__).parents[1] / "examples" / "notebooks"
SECONDS = 300
"""The longest that a cell may take."""


def execute(path: Path) -> Any:
    """The notebook with the outputs of today.

    Args:
        path: of the notebook, which stays as it is.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        context = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=context).execute()
    for cell in notebook.cells:
        cell.metadata = {}  # when it was executed
        # What libraries say on the way is about this machine.
        cell.outputs = [each for each in cell.get("outputs", ()) if each.get("name") != "stderr"]
        if cell.cell_type != "code":
            del cell["outputs"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return notebook


def main() -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            nbformat.write(execute(path), path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
