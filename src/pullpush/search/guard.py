"""What every request passes through: who may ask, how much may be sent, and what every answer carries."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pullpush.search.metrics import Metrics

logger = logging.getLogger("pullpush.serve")

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
COOKIE = "pullpush"
OPEN_PATHS = ("/", "/favicon.ico", "/page/app.js", "/page/style.css", "/api/session", "/health")
"""What is answered without the token: the page itself (which then asks for it) and whether the server lives."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class Rules:
    """`hosts`: names a request may use for this server (None: any); the others are refused, as a page elsewhere could
    point its own name here. `token`: asked for where given. `max_body` in bytes; `timeout` in seconds."""

    hosts: tuple[str, ...] | None = LOOPBACK
    token: str | None = None
    max_body: int = 11 * 1024 * 1024
    timeout: float = 30.0


class Guard:
    """ASGI middleware: hosts, origins, token, body size, time, headers, the log and the metrics.

    The log has a line a request: method, route, status, milliseconds. Never a query, a file name or an address.
    """

    def __init__(self, app: ASGIApp, rules: Rules, metrics: Metrics) -> None:
        self.app, self.rules, self.metrics = app, rules, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                extra = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in given]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        try:
            if refusal is not None:
                await _error(answer, *refusal)
            else:
                limited = _Limited(receive, self.rules.max_body)
                await asyncio.wait_for(self._within(scope, limited, answer), self.rules.timeout)
        except TimeoutError:
            if not status:
                await _error(answer, 503, "timeout", f"no answer within {self.rules.timeout:g} seconds; try again")
        except Exception:
            logger.exception("an error of the server itself")
            if not status:
                await _error(answer, 500, "internal", "the server made an error; it is in its log")
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.note(route, scope["method"] if route != "other" else "other", status, seconds)
        logger.info("%s %s %d %.1f ms", scope["method"][:8], route, status, seconds * 1000)

    async def _within(self, scope: Scope, receive: _Limited, answer: Send) -> None:
        try:
            await self.app(scope, receive, answer)
        except _TooLarge:
            limit = self.rules.max_body
            await _error(answer, 413, "too_large", f"the request is larger than {limit:,} bytes", close=True)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, str] | None:
        host = urlsplit(f"//{headers.get('host', '')}").hostname if _plain(headers.get("host", "")) else None
        if self.rules.hosts is not None and host not in self.rules.hosts:
            return 421, "wrong_host", "this server does not answer to that name"
        origin = headers.get("origin")
        if (
            scope["method"] not in ("GET", "HEAD")
            and origin is not None
            and origin.split("://")[-1] != headers.get("host")
        ):
            return 403, "wrong_origin", "another site's page may not send this"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "bad_request", "content-length is not a number"
        if int(length) > self.rules.max_body:
            return 413, "too_large", f"the request is larger than {self.rules.max_body:,} bytes"
        if self.rules.token and scope["path"] not in OPEN_PATHS and not self._known(headers):
            return 401, "no_token", "this server asks for a token: Authorization: Bearer TOKEN"
        return None

    def _known(self, headers: dict[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            try:
                cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
            except CookieError:
                return False
            given = cookie.value if cookie is not None else ""
        return same(given, self.rules.token or "")


class _TooLarge(Exception):
    """More was sent than announced or allowed."""


class _Limited:
    """Counts what is received: the announced length may be missing or a lie."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.receive, self.left = receive, limit

    async def __call__(self) -> Message:
        message = await self.receive()
        self.left -= len(message.get("body", b""))
        if self.left < 0:
            raise _TooLarge
        return message


def same(given: str, token: str) -> bool:
    """Compared in a time that does not tell how much is right."""
    return hmac.compare_digest(given.encode(), token.encode())


def _plain(host: str) -> bool:
    return bool(host) and all(c.isalnum() or c in ".-:[]_" for c in host)


async def _error(send: Send, status: int, code: str, message: str, close: bool = False) -> None:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
