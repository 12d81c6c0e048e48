"""What every request passes through: who may ask, how much may be sent, and what every answer carries."""

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pullpush.server.bodies import CHUNK, Bodies, Gone
from pullpush.server.error_answers import BROKEN, error_answer
from pullpush.server.metrics import Metrics
from pullpush.server.uploads import Refused

__all__ = ["HEAD", "LOOPBACK", "Rules", "SecurityMiddleware", "cookie_name", "same"]

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
OPEN_PATHS = (
    "/",
    "/favicon.ico",
    "/page/app.js",
    "/page/style.css",
    "/api/session",
    "/health",
    "/numbers",
    "/page/glossary.css",
)
"""What is answered without the token: the page itself (which then asks for it), what its numbers mean, and whether the
server lives."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORTS = {"http": 80, "https": 443}
GONE = 499
"""Stands in log and metrics for the status where the client left before the answer."""


PAGES = ("/", "/docs")
"""Where a link of another site may lead."""
UPLOADS = re.compile("/api/(search|identify|classes|items(/[0-9]+/why)?)")
"""Where images are sent to."""
SMALL = 64 * 1024
"""Bytes of a body that is no upload."""
HEAD = 32 * 1024
"""Bytes of a request's head, its address included."""
SINGLE = (b"host", b"origin", b"authorization", b"content-length", b"sec-fetch-site")


@dataclass
class Rules:
    """`hosts`: names a request may use for this server (None: any); the others are refused, as a page elsewhere could
    point its own name here. `token`: asked for where given. `max_body` in bytes; `timeout` in seconds, from when the
    body has arrived."""

    hosts: tuple[str, ...] | None = LOOPBACK
    token: str | None = None
    max_body: int = 11 * 1024 * 1024
    timeout: float = 30.0


class SecurityMiddleware:
    """ASGI middleware: hosts, origins, token, body size, time, headers, the log and the metrics.

    The log has a line a request: method, route, status, milliseconds. Never a query, a file name or an address.
    """

    def __init__(self, app: ASGIApp, rules: Rules, metrics: Metrics) -> None:
        self.app, self.rules, self.metrics, self.bodies = app, rules, metrics, Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":  # no WebSocket is served
            return
        started, status = time.perf_counter(), GONE

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                extra = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in present]
                message = {**message, "headers": [*message["headers"], *extra]}
            for part in _parts(message):
                await send(part)

        # HEAD is GET, and the server leaves the body out.
        inner = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        try:
            await self._work(inner, receive, answer, lambda: status != GONE)
        except Gone:
            pass  # the client has gone, so nobody is there to be answered; the log below says so by the status
        except Exception as error:
            refused = error if isinstance(error, Refused) else Refused(500, BROKEN, "internal")
            if refused is not error:
                logger.exception("an error of the server itself")
            if status == GONE:
                closing = {"connection": "close"} if refused.close else None
                await error_answer(refused.status, refused.code, str(refused), closing)(scope, receive, answer)
        seconds = time.perf_counter() - started
        route = getattr(inner.get("route"), "path", "other")
        self.metrics.note(route, scope["method"] if route != "other" else "other", status, seconds)
        logger.info("%s %s %d %.1f ms", scope["method"][:8], route, status, seconds * 1000)

    async def _work(self, scope: Scope, receive: Receive, answer: Send, begun: Callable[[], bool]) -> None:
        """`begun`: whether the answer has. Raises: `Refused`; `Gone`."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        upload = headers.get("content-type", "").startswith("multipart/form-data") and UPLOADS.fullmatch(scope["path"])
        limit = self.rules.max_body if upload else SMALL
        self._check(scope, headers, limit)
        with self.bodies.room() as body:
            await body.receive(receive, limit)
            await self._within(scope, lambda: body.again(receive), receive, answer, begun)

    async def _within(
        self, scope: Scope, again: Receive, receive: Receive, answer: Send, begun: Callable[[], bool]
    ) -> None:
        """Runs the application until it has answered, the time is over or the client is gone. A change of the index
        that has begun is waited for, and its answer given. How long an answer may be read is not limited here."""
        work = asyncio.ensure_future(self.app(scope, again, answer))
        gone = asyncio.ensure_future(receive())
        try:
            first = asyncio.FIRST_COMPLETED
            done, _ = await asyncio.wait({work, gone}, timeout=self.rules.timeout, return_when=first)
            if not done and begun():
                await asyncio.wait({work, gone}, return_when=first)
            if work.done():
                return await work
            left = gone.done()
            work.cancel()
            try:
                await work
            except asyncio.CancelledError:
                if left:
                    raise Gone from None
                seconds = f"{self.rules.timeout:g}"
                raise Refused(503, f"no answer within {seconds} seconds; nothing was changed", "timeout") from None
        finally:
            work.cancel()
            gone.cancel()

    def _check(self, scope: Scope, headers: dict[str, str], limit: int) -> None:
        """Raises: `Refused` for what is refused by its head alone."""
        head = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if head + sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD:
            raise Refused(431, f"the head of the request is longer than {HEAD:,} bytes", "too_large", close=True)
        names = [name for name, _ in scope["headers"]]
        if any(names.count(name) > 1 for name in SINGLE) or {b"transfer-encoding", b"content-length"} <= set(names):
            # A proxy in front may have read it in another way, and take its body for the next request.
            raise Refused(400, "a header is given twice, or two that exclude each other", "bad_request", close=True)
        host = _place(f"{scope['scheme']}://{headers.get('host', '')}")
        if host is None:
            raise Refused(400, "the header Host is not a name", "bad_request", close=True)
        if self.rules.hosts is not None and host[1] not in self.rules.hosts:
            raise Refused(421, "this server does not answer to that name", "wrong_host")
        origin = headers.get("origin")
        if origin is not None and _place(origin) != host:
            raise Refused(403, "another site's page may not send this", "wrong_origin")
        self._check_site(scope, headers)
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise Refused(400, "content-length is not a number", "bad_request", close=True)
        if len(length) > 15 or int(length) > limit:
            raise Refused(413, f"the request is larger than {limit:,} bytes", "too_large", close=True)
        if self.rules.token and scope["path"] not in OPEN_PATHS and not self._known(scope, headers):
            raise Refused(401, "this server asks for a token: Authorization: Bearer TOKEN", "no_token")

    def _check_site(self, scope: Scope, headers: dict[str, str]) -> None:
        """Another site may link to a page, and do nothing else: what it cannot read costs work all the same."""
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return
        if headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET" and scope["path"] in PAGES:
            return
        raise Refused(403, "another site's page may not send this", "wrong_origin")

    def _known(self, scope: Scope, headers: dict[str, str]) -> bool:
        token = self.rules.token or ""
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return same(credentials, token)
        # Cookies of other servers on this machine come along, and not all of them are well-formed.
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        return any(same(value, token) for name, _, value in pairs if name == cookie_name(scope))


def cookie_name(scope: Scope) -> str:
    """A name for each port: cookies know none, and two servers on one machine would take each other's away."""
    server = scope.get("server")
    return f"{COOKIE}-{server[1]}" if server else COOKIE


def same(sent: str, token: str) -> bool:
    """Compared in a time that does not tell how much is right."""
    return hmac.compare_digest(sent.encode(), token.encode())


def _place(url: str) -> tuple[str, str, int] | None:
    """Scheme, name and port; None where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    host = parts.netloc
    plain = all(c.isalnum() or c in ".-:[]_" for c in host)
    return (parts.scheme, parts.hostname, port) if plain and parts.hostname else None


def _parts(message: Message) -> Iterator[Message]:
    """A long answer in parts, so that the connection holds one of them and not all that its client does not read."""
    body, start = message.get("body", b""), 0
    while len(body) - start > CHUNK:
        yield {**message, "body": body[start : start + CHUNK], "more_body": True}
        start += CHUNK
    yield {**message, "body": body[start:]} if start else message
