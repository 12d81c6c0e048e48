"""Every error as an answer: JSON with a code and a message that names no path and no process."""

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pullpush.errors import UserError
from pullpush.files.lock import Held
from pullpush.files.write import is_full
from pullpush.search.errors import BadQuery, DiskFull, NoIndex, NoItem
from pullpush.server.decoders import Busy
from pullpush.server.service import GONE
from pullpush.server.uploads import Refused

__all__ = ["BROKEN", "BUSY", "add_errors", "error_answer"]

logger = logging.getLogger("pullpush.serve")

BUSY = "too many requests are waiting; try again in a moment"
BROKEN = "the server made an error; it is in its log"
USUAL = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}, 503: {"retry-after": "1"}}
"""Headers by status."""


def error_answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """`{"error": {"code", "message"}}`."""
    return JSONResponse(
        {"error": {"code": code, "message": message}}, status, {**USUAL.get(status, {}), **(headers or {})}
    )


def add_errors(app: FastAPI) -> None:
    """Every error as an `error_answer`."""
    for kind in (Busy, UserError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _explained)


async def _explained(request: Request, error: Exception) -> JSONResponse:
    """Messages go to the client only where they are meant for it: others name paths and processes."""
    match error:
        case Busy():
            return error_answer(429, "busy", BUSY)
        case NoItem():
            return error_answer(404, "no_item", "there is no such item")
        case BadQuery():
            return error_answer(400, "bad_query", str(error))
        case Refused():
            return error_answer(error.status, error.code, str(error))
        case Held():
            again = {"retry-after": "2"}
            return error_answer(503, "being_written", "the index is being written; try again in a moment", again)
        case NoIndex():
            return error_answer(503, "index_gone", GONE, {"retry-after": "60"})
        case RequestValidationError():
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"][1:]) or "request"
            return error_answer(422, "invalid", f"{place}: {first['msg']}")
    if isinstance(error, DiskFull) or (not isinstance(error, UserError) and is_full(error)):
        return error_answer(507, "disk_full", "the server's disk is full; nothing was changed")
    if isinstance(error, UserError):
        logger.error("%s", error)
        why = "the index cannot be used now; the log says why"
        return error_answer(503, "unavailable", why, {"retry-after": "10"})
    if isinstance(error, HTTPException):
        return error_answer(error.status_code, f"http_{error.status_code}", str(error.detail), error.headers)
    return error_answer(500, "internal", BROKEN)
