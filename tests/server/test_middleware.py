"""What a request passes before it is worked on: names, origins, tokens, sizes, times; what is logged and counted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from pullpush.server import bodies
from pullpush.server.bodies import Bodies
from pullpush.server.log import LogLimit
from pullpush.server.metrics import Metrics
from pullpush.server.middleware import HEAD, Rules, SecurityMiddleware
from pullpush.server.uploads import Refused
from tests.support.hostile import good
from tests.support.running import Running, running

TOKEN = "s0mesecret"


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(built, tmp_path_factory.mktemp("middleware") / "log") as started:
        yield started


@pytest.fixture(scope="module")
def closed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(built, tmp_path_factory.mktemp("closed") / "log", token=TOKEN) as started:
        yield started


def raw(server: Running, request: bytes, seconds: float = 20) -> tuple[int, dict[str, object]]:
    """Status and JSON of whatever is written to the socket; `HOST` in it is the server's."""
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), seconds) as client:
        client.settimeout(seconds)
        client.sendall(request.replace(b"HOST", place.netloc.encode()))
        answer = client.makefile("rb")
        status = int(answer.readline().split()[1])
        length = 0
        while (line := answer.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return status, json.loads(answer.read(length) or b"{}")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /api/index HTTP/1.1\r\nHost: [\r\n\r\n", 400),
        (b"GET /api/index HTTP/1.1\r\nHost: a]b\r\n\r\n", 400),
        (b"GET /api/index HTTP/1.1\r\nHost: 127.0.0.1:x\r\n\r\n", 400),
        (b"GET /api/index HTTP/1.1\r\n\r\n", 400),
        (b"GET /api/index HTTP/1.0\r\n\r\n", 400),
        (b"GET /api/index HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET /" + b"x" * 2 * HEAD + b" HTTP/1.1\r\nHost: HOST\r\n\r\n", 431),
        (b"GET /api/index HTTP/1.1\r\nHost: HOST\r\nX: " + b"x" * 2 * HEAD + b"\r\n\r\n", 431),
        (b"GET http://evil.example/api/index HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (b"TRACE /api/index HTTP/1.1\r\nHost: HOST\r\n\r\n", 405),
        (b"GET /api/index/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (
            b"POST /api/search HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /api/session HTTP/1.1\r\nHost: HOST\r\nContent-Length: 100000\r\n\r\n", 413),
        (b"POST /api/session HTTP/1.1\r\nHost: HOST\r\nContent-Length: " + b"9" * 19 + b"\r\n\r\n", 413),
        (b"GET /api/index HTTP/1.1\r\nHost: HOST\r\nOrigin: a\r\nOrigin: b\r\n\r\n", 400),
        (
            b"POST /api/search HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
            400,
        ),
    ],
)
def test_odd_requests_are_answered_in_json(server: Running, request_: bytes, status: int) -> None:
    answered, body = raw(server, request_)
    # Where it does not arrive at once, the connection has refused it before.
    assert answered in ((400, 431) if status == 431 else (status,)), body
    assert set(body["error"]) == {"code", "message"}
    assert "Traceback" not in server.log.read_text()


def test_a_websocket_is_not_opened(server: Running) -> None:
    upgrade = b"GET /api/index HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    status, _ = raw(server, upgrade + b"Sec-WebSocket-Key: AAAA\r\nSec-WebSocket-Version: 13\r\n\r\n")
    assert status == 200


def test_head_is_get_without_the_body(server: Running) -> None:
    for path, status in (("/", 200), ("/api/index", 200), ("/api/items/3/thumbnail", 200), ("/nothing", 404)):
        answer = httpx.head(f"{server.url}{path}")
        assert (answer.status_code, answer.content) == (status, b"")
        assert int(answer.headers["content-length"]) > 0


def test_the_query_does_not_reach_the_page(server: Running) -> None:
    for name in ("app.js", "style.css"):
        plain = httpx.get(f"{server.url}/page/{name}")
        given = httpx.get(f"{server.url}/page/{name}", params={"answer": "<script>reflected", "path": "/etc/passwd"})
        assert (given.status_code, given.content) == (200, plain.content)
        assert given.headers["content-type"] == plain.headers["content-type"]


@pytest.mark.parametrize(
    ("site", "mode", "method", "path", "status"),
    [
        ("cross-site", "no-cors", "GET", "/api/search?text=red", 403),
        ("same-site", "no-cors", "GET", "/api/items/3/image", 403),
        ("cross-site", "navigate", "GET", "/api/search?text=red", 403),
        ("cross-site", "navigate", "GET", "/", 200),
        ("cross-site", "navigate", "POST", "/", 403),
        ("cross-site", "no-cors", "GET", "/", 403),
        ("cross-site", "no-cors", "GET", "/metrics", 403),
        ("same-origin", "cors", "GET", "/api/search?text=red", 200),
        ("none", "navigate", "GET", "/api/search?text=red", 200),
        ("nonsense", "navigate", "GET", "/api/index", 403),
    ],
)
def test_other_sites_may_link_and_nothing_else(
    server: Running, site: str, mode: str, method: str, path: str, status: int
) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
    assert httpx.request(method, f"{server.url}{path}", headers=headers).status_code == status


def test_an_origin_is_scheme_name_and_port(server: Running) -> None:
    place = urlsplit(server.url)
    port = place.port
    for origin in (f"https://127.0.0.1:{port}", "http://127.0.0.1", "http://127.0.0.1:1", "null", "http://[", "x"):
        for method in ("GET", "DELETE"):
            answer = httpx.request(method, f"{server.url}/api/items/99999", headers={"origin": origin})
            assert answer.status_code == 403, origin
    assert httpx.delete(f"{server.url}/api/items/99999", headers={"origin": server.url}).status_code == 404
    forwarded = {"origin": f"https://127.0.0.1:{port}", "x-forwarded-proto": "https"}  # by a proxy in front
    assert httpx.delete(f"{server.url}/api/items/99999", headers=forwarded).status_code == 404


def test_the_token_is_found_among_the_cookies_of_others(closed: Running) -> None:
    with httpx.Client(base_url=closed.url) as client:
        answer = client.post("/api/session", json={"token": TOKEN})
        cookie = answer.headers["set-cookie"].split(";")[0]
    strange = 'settings={"a": [1, "x"], "b": "\\"}; =; ;;a; x="'
    for header in (cookie, f"{strange}; {cookie}", f"{cookie}; {strange}", f"{cookie.split('=')[0]}=old; {cookie}"):
        assert httpx.get(f"{closed.url}/api/index", headers={"cookie": header}).status_code == 200, header
    for header in (strange, f"pullpush={TOKEN}", cookie[:-1], cookie + "x"):
        assert httpx.get(f"{closed.url}/api/index", headers={"cookie": header}).status_code == 401, header
    assert str(urlsplit(closed.url).port) in cookie  # another server on this machine has another cookie


@pytest.mark.parametrize("path", ["//health", "/health/", "/health/../api/index", "/health?x=/api/index", "/%2fhealth"])
def test_no_spelling_of_an_open_path_opens_another(closed: Running, path: str) -> None:
    status, body = raw(closed, f"GET {path} HTTP/1.1\r\nHost: HOST\r\n\r\n".encode())
    assert status == 401 or body.get("status") == "ok"
    twice = f"GET /api/index HTTP/1.1\r\nHost: HOST\r\nAuthorization: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    assert raw(closed, twice.encode())[0] == 400
    assert httpx.get(f"{closed.url}/metrics").status_code == 401


def test_labels_of_the_metrics_are_not_written_by_clients(server: Running) -> None:
    with httpx.Client(base_url=server.url) as client:
        for number in range(50):
            client.request(f"METHOD{number}", "/api/index")
            client.get(f"/made/up/{number}")
            client.get("/api/items/1/thumbnail", headers={"sec-fetch-site": f"x{number}"})
        client.get("/metrics")
        before = len(client.get("/metrics").text)
        for number in range(50, 100):
            client.request(f"METHOD{number}" + "X" * 500, "/api/index")
        text = client.get("/metrics").text
    assert "METHOD" not in text
    assert "made" not in text
    assert 'method="other"' in text
    assert len(text) < before + 1000
    assert "process_resident_memory_bytes" in text


# ---- bodies ----------------------------------------------------------------------------------------------------------


def parts(*given: bytes, pause: float = 0.0, end: bool = True):
    queue = list(given)

    async def receive() -> dict[str, object]:
        await asyncio.sleep(pause)
        if not queue:
            await asyncio.sleep(3600)
        part = queue.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(queue) or not end}

    return receive


def test_a_body_is_received_within_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "GRACE", 0.2)

    async def run() -> None:
        held = Bodies(budget=1000)
        with held.room() as body:
            await body.receive(parts(b"a" * 100, b"b" * 100), 200)
            assert held.held == 200
            first = await body.again(parts())
            assert (first["body"], first["more_body"]) == (b"a" * 100 + b"b" * 100, False)
        assert held.held == 0
        with held.room() as body, pytest.raises(Refused, match="larger than 200 bytes"):
            await body.receive(parts(b"a" * 100, b"b" * 101), 200)
        with held.room() as body, pytest.raises(Refused, match="did not arrive in time"):
            await body.receive(parts(b"a" * 10, end=False), 200)
        assert held.held == 0

    asyncio.run(run())


def test_whoever_has_been_sending_for_longest_makes_room() -> None:
    async def run() -> None:
        held, ended = Bodies(budget=1000), []

        async def one(name: str, receive: object, keep: float = 0.0) -> None:
            try:
                with held.room() as body:
                    await body.receive(receive, 900)
                    await asyncio.sleep(keep)
                ended.append(name)
            except Refused as error:
                ended.append(f"{name} {error.code}")

        slow = [asyncio.create_task(one(f"slow {n}", parts(b"a" * 400, end=False))) for n in range(2)]
        await asyncio.sleep(0.01)
        await one("quick", parts(b"b" * 500))
        assert ended == ["slow 0 too_slow", "quick"] or ended == ["quick", "slow 0 too_slow"]
        slow[1].cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        ended.clear()
        busy = asyncio.create_task(one("busy", parts(b"c" * 800), keep=0.2))
        await asyncio.sleep(0.05)
        await one("late", parts(b"d" * 500))
        assert ended == ["late busy"]
        await busy
        assert held.held == 0

    asyncio.run(run())


def test_whoever_has_sent_least_goes_first_and_whoever_holds_most_goes() -> None:
    async def run() -> None:
        held, order = Bodies(budget=1000), []

        async def turn(size: int) -> None:
            await held.turn(size)
            order.append(size)

        await asyncio.gather(*(turn(size) for size in (900, 5, 400, 10)))
        assert order == [5, 10, 400, 900]

        async def one(name: str, receive: object) -> None:
            try:
                with held.room() as body:
                    await body.receive(receive, 900)
                order.append(name)
            except Refused as error:
                order.append(f"{name} {error.code}")

        order.clear()
        little = asyncio.create_task(one("little", parts(*[b"a"] * 9, pause=0.01)))  # first, but cheap
        await asyncio.sleep(0.03)
        much = asyncio.create_task(one("much", parts(b"b" * 800, end=False)))
        await asyncio.sleep(0.03)
        await one("late", parts(b"c" * 300))
        await asyncio.gather(little, much)
        assert "much too_slow" in order
        assert {"little", "late"} <= set(order)
        assert held.held == 0

    asyncio.run(run())


def test_a_long_answer_goes_out_in_parts_and_may_be_read_slowly() -> None:
    whole, sent = bytes(range(256)) * 1000, []

    async def app(scope: object, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": whole})

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(0.1)
        sent.append(message)

    async def run() -> None:
        middleware = SecurityMiddleware(app, Rules(timeout=0.15), Metrics())
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "scheme": "http"}
        await middleware({**scope, "headers": [(b"host", b"127.0.0.1")]}, parts(b""), send)

    asyncio.run(run())
    bodies_ = [message for message in sent if message["type"] == "http.response.body"]
    assert b"".join(message["body"] for message in bodies_) == whole
    assert max(len(message["body"]) for message in bodies_) <= bodies.CHUNK
    assert [message.get("more_body", False) for message in bodies_] == [True] * (len(bodies_) - 1) + [False]


# ---- the log ---------------------------------------------------------------------------------------------------------


def test_the_log_cannot_be_flooded() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(LogLimit(warnings=5, lines=50, seconds=0.3))
    logger = logging.Logger("a server")
    logger.addHandler(handler)

    def cause(count: int) -> list[str]:
        stream.seek(0)
        stream.truncate()
        for number in range(count):
            logger.warning(f"accepting failed {number}")  # the text is another each time, the place is the same
            logger.info("GET %d", number)
        return stream.getvalue().splitlines()

    lines = cause(1000)
    assert [sum(word in line for line in lines) for word in ("accepting", "GET")] == [5, 50]
    time.sleep(0.35)
    assert cause(1) == ["accepting failed 0 (995 more like it were left out)", "GET 0 (950 more like it were left out)"]


def test_a_refused_upload_writes_one_line(server: Running) -> None:
    before = len(server.log.read_text().splitlines())
    httpx.post(f"{server.url}/api/search", files={"image": ("x", good()[:-100])})
    end = time.monotonic() + 10  # it is written once the answer is out
    while len(server.log.read_text().splitlines()) == before and time.monotonic() < end:
        time.sleep(0.01)
    assert len(server.log.read_text().splitlines()) == before + 1
