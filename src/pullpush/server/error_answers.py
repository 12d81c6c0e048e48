"""Every error as an answer: JSON with a code and a message that names no path and no process."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from pullpush.errors import UserError
from pullpush.files import Held, is_full
from pullpush.search.errors import BadQuery, DiskFull, NoIndex, NoItem
from pullpush.server.decoders import Busy
from pullpush.server.service import GONE
from pullpush.server.uploads import Refused

__all__ = ["add_errors"]

logger = logging.getLogger("pullpush.serve")
FULL = "the server's disk is full; nothing was changed"


def add_errors(app: FastAPI) -> None:
    """Every error as `{"error": {"code", "message"}}`."""

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        return _error(429, "busy", "too many requests are waiting; try again in a moment", {"retry-after": "1"})

    @app.exception_handler(UserError)
    async def mistake(request: Request, error: UserError) -> JSONResponse:
        """Messages go to the client only where they are meant for it: others name paths and processes."""
        if isinstance(error, NoItem):
            return _error(404, "no_item", "there is no such item")
        if isinstance(error, BadQuery):
            return _error(400, "bad_query", str(error))
        if isinstance(error, Refused):
            return _error(error.status, "refused", str(error))
        if isinstance(error, Held):
            return _error(
                503, "being_written", "the index is being written; try again in a moment", {"retry-after": "2"}
            )
        if isinstance(error, NoIndex):
            return _error(503, "index_gone", GONE, {"retry-after": "60"})
        if isinstance(error, DiskFull):
            return _error(507, "disk_full", FULL)
        logger.error("%s", error)
        return _error(503, "unavailable", "the index cannot be used now; the log says why", {"retry-after": "10"})

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        if is_full(error):
            return _error(507, "disk_full", FULL)
        return _error(500, "internal", "the server made an error; it is in its log")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "request"
        return _error(422, "invalid", f"{place}: {first['msg']}")

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: StarletteHTTPException) -> JSONResponse:
        if is_full(error):  # while an upload was put aside
            return _error(507, "disk_full", FULL)
        return _error(error.status_code, f"http_{error.status_code}", str(error.detail), error.headers)


def _error(status: int, code: str, message: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers=headers)
