"""The HTTP API, from outside."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import uvicorn
from PIL import Image

from pullpush import search
from pullpush.errors import UserError
from pullpush.server import serve
from pullpush.server.middleware import Rules
from tests.support.fake import FakeModel
from tests.support.hostile import HOSTILE, good
from tests.support.running import Running, running


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(built, tmp_path_factory.mktemp("server") / "log") as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened


def labels(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {hit["label"] for hit in answer.json()["hits"]}


def upload(client: httpx.Client, data: bytes, **fields: object) -> httpx.Response:
    return client.post("/api/search", files={"image": ("x", data)}, data=fields)


def test_search_by_text_upload_and_id(client: httpx.Client, built: Path) -> None:
    assert labels(client.get("/api/search", params={"text": "a red thing"})) == {"red"}
    assert labels(upload(client, good("JPEG", "blue"))) == {"blue"}
    hit = client.get("/api/search", params={"text": "green", "k": 1}).json()["hits"][0]
    near = client.get("/api/search", params={"like": hit["id"], "k": 5})
    assert labels(near) == {"green"}
    assert hit["id"] not in [each["id"] for each in near.json()["hits"]]
    assert client.get("/api/search", params={"text": "zebra", "cut_off": 0.2}).json() == {"hits": [], "more": False}
    assert labels(client.get("/api/search", params={"text": "red", "label": "blue", "cut_off": -10})) == {"blue"}
    assert labels(upload(client, good(), text="blue", image_weight=0)) == {"blue"}
    engine = search.open(built, FakeModel())
    same = client.get("/api/search", params={"text": "red", "minus_id": 4, "like": 70, "cut_off": -10}).json()["hits"]
    assert [h["id"] for h in same] == [h.id for h in engine.query(text="red", minus=4, like=70, cut_off=None)]


def test_hits_are_reranked_as_asked(client: httpx.Client, built: Path) -> None:
    asked = "expand=3,augment=2"
    engine = search.open(built, FakeModel())
    found = client.get("/api/search", params={"like": 70, "rerank": asked, "k": 50}).json()["hits"]
    assert [h["id"] for h in found] == [h.id for h in engine.query(like=70, k=50, rerank=asked)]
    assert [h["id"] for h in found] != [h.id for h in engine.query(like=70, k=50)]
    assert client.get("/api/index").json()["rerank"] == "none"  # what auto is for this model
    plain = client.get("/api/search", params={"like": 70, "rerank": "auto", "k": 50}).json()["hits"]
    assert [h["id"] for h in plain] == [h.id for h in engine.query(like=70, k=50)]
    then = client.get("/api/search", params={"like": 70, "rerank": asked, "k": 10, "skip": 40}).json()["hits"]
    assert then == found[40:]


def test_a_search_gives_as_many_as_were_asked_for_and_then_more(client: httpx.Client) -> None:
    found = client.get("/api/search", params={"text": "zebra", "k": 36}).json()
    assert len(found["hits"]) == 36
    assert all(hit["weak"] for hit in found["hits"])
    seen: list[int] = []
    for skip in range(0, 150, 50):
        page = client.get("/api/search", params={"text": "red", "k": 50, "skip": skip}).json()
        seen += [hit["id"] for hit in page["hits"]]
        assert page["more"] is (skip < 100)
    assert len(seen) == len(set(seen)) == 120
    again = upload(client, good("JPEG", "red"), k=7, skip=5).json()
    whole = upload(client, good("JPEG", "red"), k=12).json()
    assert again["hits"] == whole["hits"][5:]
    assert again["more"]
    last = client.get("/api/search", params={"text": "red", "label": "blue", "k": 20}).json()
    assert (len(last["hits"]), last["more"]) == (20, False)
    limits = client.get("/api/index").json()["limits"]
    params = {"text": "red", "k": limits["k"], "skip": limits["skip"]}
    assert client.get("/api/search", params=params).json() == {"hits": [], "more": False}


def test_pictures_are_served_by_id(client: httpx.Client, built: Path) -> None:
    for kind in ("thumbnail", "image"):
        answer = client.get(f"/api/items/25/{kind}")
        assert answer.headers["content-type"] == "image/webp"
        image = Image.open(io.BytesIO(answer.content)).convert("RGB")
        original = Image.open(search.open(built).item(25).path)
        assert np.abs(np.asarray(image, float).mean((0, 1)) - np.asarray(original, float).mean((0, 1))).max() < 12
    for path in ("/api/items/9999/thumbnail", "/api/items/9999/image", "/api/items/9999", "/api/search?like=9999"):
        assert client.get(path).status_code == 404
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/api/items/..%2f..%2fsecret/image", "/page/index.html"):
        assert client.get(path).status_code in (404, 422)
    assert "path" not in client.get("/api/items/25").json()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_uploads(client: httpx.Client, name: str) -> None:
    data, status = HOSTILE[name]
    answer = upload(client, data)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/search", 400),
        ("/api/search?text=" + "x" * 501, 422),
        ("/api/search?text=red&k=0", 422),
        ("/api/search?text=red&k=201", 422),
        ("/api/search?text=red&skip=800", 422),
        ("/api/search?text=red&skip=-1", 422),
        ("/api/search?like=abc", 422),
        ("/api/search?text=red&label=none", 400),
        ("/api/search?text=red&cut_off=nan", 422),
        ("/api/search?text=red&rerank=expand%3D101", 400),
        ("/api/search?text=red&rerank=agment%3D3", 400),
        (f"/api/search?text=red&rerank={'x' * 501}", 422),
        ("/api/map?by=path", 400),
        ("/nothing", 404),
        ("/api/items/99999999999999999999", 404),
    ],
)
def test_errors_are_json_without_traces(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text


def test_headers_on_every_answer(client: httpx.Client) -> None:
    for path in ("/", "/page/app.js", "/api/index", "/docs", "/nothing", "/api/search"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_other_hosts_and_origins_are_refused(client: httpx.Client, server: Running) -> None:
    assert client.get("/api/index", headers={"host": "evil.example"}).status_code == 421
    assert client.delete("/api/items/1", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.delete("/api/items/1", headers={"origin": "null"}).status_code == 403
    assert client.get("/api/items/1").status_code == 200


def test_a_body_that_is_larger_than_announced_is_cut_off(server: Running) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield bytes(1024 * 1024)

    with httpx.Client(base_url=server.url, timeout=30) as client:
        try:
            status = client.post(
                "/api/search", content=chunks(), headers={"content-type": "multipart/form-data; boundary=x"}
            ).status_code
        except httpx.HTTPError:
            status = 413  # the connection was closed while we were still sending
        assert status in (400, 413)
        assert client.get("/health").json()["status"] == "ok"


def test_api_docs_health_and_metrics(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/search", "/api/items", "/api/items/{item}", "/api/map", "/health", "/metrics"} <= set(paths)
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    assert all(path in page for path in paths)
    assert client.get("/health").json()["items"] == 120
    assert client.get("/api/search", params={"like": 0}).status_code == 200
    text = client.get("/metrics").text
    assert 'pullpush_requests_total{method="GET",route="/api/search",status="200"}' in text
    assert "pullpush_items 120" in text
    assert 'le="+Inf"' in text


def test_the_map_and_the_description(client: httpx.Client) -> None:
    about = client.get("/api/index").json()
    assert (about["items"], about["text"], about["store"]) == (120, True, "flat")
    assert about["filters"]["label"] == ["black", "blue", "green", "red", "white", "yellow"]
    places = client.get("/api/map", params={"by": "label"}).json()
    assert len(places["ids"]) == len(places["x"]) == len(places["y"]) == len(places["group"]) == 120
    assert sorted(places["groups"]) == about["filters"]["label"]


def test_the_log_holds_no_user_content(client: httpx.Client, server: Running) -> None:
    client.get("/api/search", params={"text": "very private words"})
    client.get("/private/place")
    client.post("/api/search", files={"image": ("private-name.png", good())})
    log = server.log.read_text()
    assert "GET /api/search 200" in log
    assert "private" not in log
    assert "127.0.0.1" not in log


def test_add_and_remove(index: Path, tmp_path: Path) -> None:
    with running(index, tmp_path / "log") as server, httpx.Client(base_url=server.url, timeout=30) as client:
        files = [("images", ("a", good("PNG", "yellow", 77))), ("images", ("b", good("GIF", "red", 78)))]
        ids = client.post("/api/items", files=files, data={"label": "new"}).json()["ids"]
        assert len(ids) == 2
        assert client.get(f"/api/items/{ids[0]}").json()["label"] == "new"
        assert upload(client, good("PNG", "yellow", 77), k=1).json()["hits"][0]["id"] == ids[0]
        assert client.post("/api/items", files=[("images", ("c", HOSTILE["svg"][0]))]).status_code == 415
        assert client.delete(f"/api/items/{ids[0]}").json() == {"removed": 1}
        assert client.delete(f"/api/items/{ids[0]}").status_code == 404
        assert client.get("/health").json()["items"] == 121
        search.remove(index, [ids[1]])  # by another process; the server follows
        for _ in range(100):
            if client.get("/health").json()["items"] == 120:
                break
            asyncio.run(asyncio.sleep(0.1))
        assert client.get("/health").json()["items"] == 120


def test_token_and_read_only(built: Path, tmp_path: Path) -> None:
    with running(built, tmp_path / "log", token="s0mesecret", read_only=True) as server:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            assert client.get("/").status_code == 200
            assert "What do these numbers mean?" in client.get("/numbers").text
            assert client.get("/health").status_code == 200
            for path in (
                "/api/index",
                "/api/search?text=red",
                "/api/items/1/image",
                "/metrics",
                "/openapi.json",
                "/docs",
            ):
                assert client.get(path).status_code == 401, path
                assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
                given = {"authorization": "Bearer s0mesecret"}
                assert client.get(path, headers=given).status_code == 200, path
            assert client.post("/api/session", json={"token": "wrong"}).status_code == 401
            answer = client.post("/api/session", json={"token": "s0mesecret"})
            assert answer.status_code == 204
            cookie = answer.headers["set-cookie"].lower()
            assert "httponly" in cookie
            assert "samesite=strict" in cookie
            assert client.get("/api/index").json()["read_only"] is True
            assert client.delete("/api/items/1").status_code == 403
            assert client.post("/api/items", files={"images": ("x", good())}).status_code == 403
        assert "secret" not in server.log.read_text()


def test_a_full_queue_answers_429_and_recovers(built: Path, tmp_path: Path) -> None:
    async def flood(url: str) -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=40)) as client:
            pictures = [good("PNG", "red", 1000 + number) for number in range(40)]
            answers = await asyncio.gather(*(client.post("/api/search", files={"image": ("x", p)}) for p in pictures))
            assert all(a.headers.get("retry-after") == "1" for a in answers if a.status_code == 429)
            assert all({h["label"] for h in a.json()["hits"]} == {"red"} for a in answers if a.status_code == 200)
            return [a.status_code for a in answers]

    with running(built, tmp_path / "log", model={"delay": 0.05}, queue=6) as server:
        statuses = asyncio.run(flood(server.url))
        assert set(statuses) == {200, 429}
        assert httpx.get(f"{server.url}/api/search", params={"text": "red"}).status_code == 200
        text = httpx.get(f"{server.url}/metrics").text
        counted = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if not line.startswith("#")}
        assert counted["pullpush_encoder_batches"] < counted["pullpush_encoder_inputs"]  # batched together


def test_a_slow_request_ends_in_time(built: Path, tmp_path: Path) -> None:
    with running(built, tmp_path / "log", model={"delay": 0.7}, timeout=0.3) as server:
        answer = httpx.post(f"{server.url}/api/search", files={"image": ("x", good())}, timeout=30)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "timeout"
        assert httpx.get(f"{server.url}/health", timeout=30).status_code == 200


def test_a_server_that_others_reach_asks_for_a_token(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given on the command line, or by the environment, where other users of the machine do not see it."""
    asked: list[str | None] = []

    def stop(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        asked.append(rules[-1].token)
        for each in sockets:
            each.close()

    rules: list[Rules] = []
    monkeypatch.setattr(uvicorn.Server, "run", stop)
    monkeypatch.setattr(
        "pullpush.server.server.Rules", lambda *given, **named: rules.append(Rules(*given, **named)) or rules[-1]
    )
    monkeypatch.delenv("PULLPUSH_TOKEN", raising=False)
    for read_only in (False, True):
        with pytest.raises(UserError, match="PULLPUSH_TOKEN"):
            serve(built, "0.0.0.0", 0, model=FakeModel(), read_only=read_only)
    serve(built, port=0, model=FakeModel())
    serve(built, "0.0.0.0", 0, "0fthe0line", model=FakeModel())
    monkeypatch.setenv("PULLPUSH_TOKEN", "0fthe0environment")
    serve(built, "0.0.0.0", 0, model=FakeModel())
    serve(built, "0.0.0.0", 0, "0fthe0line", model=FakeModel(), names=("search.example",))
    assert asked == [None, "0fthe0line", "0fthe0environment", "0fthe0line"]
    assert "search.example" in (rules[-1].hosts or ())
    monkeypatch.setenv("PULLPUSH_TOKEN", "söme secret")
    with pytest.raises(UserError, match="ASCII"):
        serve(built, port=0, model=FakeModel())


def test_what_serve_refuses(built: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no index"):
        serve(tmp_path)
    with pytest.raises(UserError, match="cannot be compared"):
        serve(built, model=FakeModel("other"))
    with pytest.raises(UserError, match="token"):
        serve(built, token="söme secret", model=FakeModel())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="another port"):
            serve(built, port=taken.getsockname()[1], model=FakeModel())


async def load(url: str, count: int, clients: int = 16) -> None:
    """Mixed requests, one in twenty hostile; every answer is checked."""
    names = list(HOSTILE)
    colours = ("red", "green", "blue", "yellow")
    uploads = {(f, c): good(f, c, 5) for f in ("PNG", "JPEG", "WEBP") for c in colours}

    async def one(client: httpx.AsyncClient, number: int) -> None:
        colour = colours[number % 4]
        if number % 20 == 0:
            data, status = HOSTILE[names[number // 20 % len(names)]]
            answer = await client.post("/api/search", files={"image": ("x", data)})
            assert answer.status_code == status
        elif number % 5 == 1:
            assert (await client.get(f"/api/items/{number % 120}/thumbnail")).content[:4] == b"RIFF"
        elif number % 5 == 2:
            data = uploads[("PNG", "JPEG", "WEBP")[number % 3], colour]
            assert labels(await client.post("/api/search", files={"image": ("x", data)})) == {colour}
        elif number % 5 == 3:
            assert labels(await client.get("/api/search", params={"text": f"{colour} {number}", "k": 20})) == {colour}
        else:
            answer = await client.get("/api/search", params={"like": number % 120, "k": 5})
            assert labels(answer) == {sorted(("red", "green", "blue", "yellow", "black", "white"))[number % 120 // 20]}

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        queue = iter(range(count))

        async def worker() -> None:
            for number in queue:
                await one(client, number)

        await asyncio.gather(*(worker() for _ in range(clients)))


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_load_with_hostile_requests(built: Path, tmp_path: Path, count: int) -> None:
    """No crash, no wrong answer to a good request, memory flat."""
    with running(built, tmp_path / "log") as server:
        process = psutil.Process(server.pid)
        asyncio.run(load(server.url, max(200, count // 2)))  # caches and the allocator's pools fill first
        before = process.memory_info().rss
        asyncio.run(load(server.url, count))
        grown = process.memory_info().rss - before
        assert grown < 60 * 2**20, f"{grown / 2**20:.0f} MB more after {count} requests"
        assert "Traceback" not in server.log.read_text()
        print(f"{count} requests, {grown / 2**20:+.1f} MB")
