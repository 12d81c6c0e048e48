"""The application of the board: a list of runs, each with its page, its images and its reports. It only reads."""

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse

from pullpush.board.state import PAGES, folders, is_run, items_of, run_state, summary
from pullpush.errors import UserError
from pullpush.runs.reader import RunFolder
from pullpush.server.connections import Connections
from pullpush.server.error_answers import add_errors
from pullpush.server.metrics import Metrics
from pullpush.server.middleware import Rules, SecurityMiddleware
from pullpush.server.numbers import add_numbers

__all__ = ["make_app"]

PAGE = Path(__file__).parent / "page"
FRESH = {"cache-control": "no-cache"}
KEPT = {"cache-control": "private, max-age=3600"}
THUMBNAIL = 112
"""Pixels of the longer side of an image."""
# A report brings its scripts with it: they run in a world of their own, from which nothing here can be asked.
SANDBOX = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; frame-ancestors 'none'"
)


def make_app(root: Path, rules: Rules, connections: Connections) -> SecurityMiddleware:
    """The application within the middleware of the search server.

    Args:
        root: the folder of the runs.
        rules: of the middleware.
        connections: whose number is counted.
    """
    app = FastAPI(title="pullpush board", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.search = None
    _add_pages(app, root)
    _add_runs(app, root)
    add_numbers(app, FRESH)
    add_errors(app)
    return SecurityMiddleware(app, rules, Metrics({"connections": lambda: len(connections)}))


def _add_pages(app: FastAPI, root: Path) -> None:
    for path, file in {"/": "index.html", "/page/app.js": "app.js", "/page/style.css": "style.css"}.items():

        async def page(file: str = file) -> FileResponse:
            return FileResponse(PAGE / file, headers=FRESH)

        app.get(path, include_in_schema=False, name=file)(page)

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204, headers=KEPT)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/runs/{name}/{page}")
    def report(name: str, page: str) -> FileResponse:
        file = _folder(root, name) / page
        if page not in PAGES or not file.is_file():
            raise HTTPException(404, "there is no such page")
        return FileResponse(file, headers={**FRESH, "content-security-policy": SANDBOX})


def _add_runs(app: FastAPI, root: Path) -> None:
    @app.get("/api/runs")
    def runs() -> dict[str, Any]:
        """All runs, those that were changed last first, and where the search is."""
        return {
            "folder": root.resolve().name,
            "search": app.state.search,
            "runs": [summary(RunFolder(each)) for each in folders(root)],
        }

    @app.get("/api/runs/{name}")
    def run(name: str) -> dict[str, Any]:
        """One run."""
        return {**run_state(_folder(root, name)), "search": app.state.search}

    @app.get("/api/runs/{name}/images/{row}")
    def image(name: str, row: int) -> Response:
        """The thumbnail of an item."""
        folder = _folder(root, name)
        items = items_of(folder)
        if items is None or not 0 <= row < len(items):
            raise HTTPException(404, "there is no such item")
        try:
            data = _thumbnail(str(folder), row, len(items))
        except UserError as error:
            raise HTTPException(404, "the image can't be read") from error
        return Response(data, media_type="image/jpeg", headers=KEPT)


def _folder(root: Path, name: str) -> Path:
    """A run by its name.

    Raises:
        HTTPException: there is none.
    """
    if not is_run(root, name):
        raise HTTPException(404, "there is no such run")
    return root / name


@lru_cache(2048)
def _thumbnail(folder: str, row: int, count: int) -> bytes:
    """A JPEG; `count` items make it another table, which a run that goes on may write."""
    items = items_of(Path(folder))
    assert items is not None
    small, data = items.open(row, THUMBNAIL), io.BytesIO()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(data, "JPEG", quality=88)
    return data.getvalue()
