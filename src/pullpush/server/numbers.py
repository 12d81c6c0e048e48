"""The page that says what the numbers mean, in the style of the server that shows it."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse

from pullpush import glossary

__all__ = ["add_numbers"]

STYLE = Path(__file__).parent / "page" / "glossary.css"


def add_numbers(app: FastAPI, headers: dict[str, str]) -> None:
    """Adds the page and its style, which begins with the server's own (`/page/style.css`)."""

    @app.get("/numbers", include_in_schema=False)
    async def numbers() -> HTMLResponse:
        return HTMLResponse(glossary.page(), headers=headers)

    @app.get("/page/glossary.css", include_in_schema=False)
    async def style() -> FileResponse:
        return FileResponse(STYLE, media_type="text/css", headers=headers)
