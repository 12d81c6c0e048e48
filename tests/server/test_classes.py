"""Enrolment and identification over HTTP and on the page, with the guards of the other requests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from pullpush import search
from pullpush.server.middleware import SMALL
from tests.support.fake import FakeModel, picture
from tests.support.hostile import HOSTILE, good
from tests.support.running import Running, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DECISION = {
    "method": "logistic",
    "scores": [-1.0, 1.0],
    "log_ratios": [-10.0, 10.0],
    "thresholds": [-1.0, 0.6, 0.99],
    "fars": [1.0, 0.1, 1e-6],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Red and green, of three images each."""
    root = tmp_path_factory.mktemp("people")
    classes = {name: [picture(name, seed) for seed in range(3)] for name in ("red", "green")}
    search.enroll(root / "people", classes, FakeModel())
    with running(root / "people", root / "log", model={"decision": DECISION}) as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened


def ask(client: httpx.Client, data: bytes, **fields: object) -> httpx.Response:
    return client.post("/api/identify", files={"image": ("x", data)}, data=fields)


def enrol(client: httpx.Client, *images: bytes, **fields: object) -> httpx.Response:
    files = [("images", ("x", data)) for data in images]
    return client.post("/api/classes", files=files, data=fields)


def test_a_name_or_unknown_and_a_class_more(client: httpx.Client) -> None:
    red = ask(client, good("PNG", "red", 50), far=0.01).json()
    assert (red["name"], red["closest"], red["far"]) == ("red", "red", 0.01)
    assert red["probability"] > 0.9
    blue = ask(client, good("JPEG", "blue", 50)).json()
    assert blue["name"] is None
    assert blue["score"] < blue["threshold"] <= red["score"]
    assert client.get("/api/index").json()["classes"] == 2

    answer = enrol(client, good("PNG", "blue", 1), good("GIF", "blue", 2), name=" blue ")
    assert (answer.status_code, answer.json()) == (201, {"ids": [6, 7]})
    assert ask(client, good("JPEG", "blue", 50)).json()["name"] == "blue"
    assert enrol(client, good("PNG", "blue", 3), name="blue", more=True).json() == {"ids": [8]}
    for item in (6, 7, 8):
        assert client.delete(f"/api/items/{item}").status_code == 200
    assert ask(client, good("JPEG", "blue", 50)).json()["name"] is None


def test_a_photograph_is_no_small_body(client: httpx.Client) -> None:
    """Of more bytes than a request without an upload may have, wherever images are sent to."""
    stream = io.BytesIO()
    picture("red", 50, side=300).save(stream, "PNG")
    assert len(stream.getvalue()) > 2 * SMALL
    assert ask(client, stream.getvalue()).json()["name"] == "red"
    paths = client.get("/openapi.json").json()["paths"]
    uploads = [path for path, methods in paths.items() if "multipart/form-data" in str(methods.get("post"))]
    assert len(uploads) == 5
    for path in uploads:
        answer = client.post(path.replace("{item}", "0"), files={"image": ("x", b"x" * 2 * SMALL)})
        assert answer.status_code in (400, 415, 422)


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("red", 400, "'red' is there already"),
        (" ", 400, "name of a class is empty"),
        ("unknown", 400, "cannot be called"),
        ("a\nb", 400, "one line"),
        ("a" * 300, 400, "one line of at most"),
        ("a" * 600, 422, "name"),
    ],
)
def test_names_that_cannot_be(client: httpx.Client, name: str, status: int, says: str) -> None:
    answer = enrol(client, good("PNG", "black", 9), name=name)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]
    assert "/" not in answer.json()["error"]["message"]


def test_bad_requests_and_hostile_uploads(client: httpx.Client) -> None:
    before = client.get("/api/index").json()["items"]
    for far in (0, 1, -1, "nan", "much"):
        assert ask(client, good(), far=far).status_code == 422
    for data, status in (HOSTILE[name] for name in ("svg", "truncated png", "png bomb")):
        assert ask(client, data).status_code == status
        assert enrol(client, good("PNG", "black", 9), data, name="black").status_code == status
    assert enrol(client, name="black").status_code == 422
    assert enrol(client, *[good()] * 17, name="black").status_code == 422
    scarlet = enrol(client, good("PNG", "black", 9), _png("red", 0), name="scarlet")
    assert (scarlet.status_code, scarlet.json()["error"]["code"]) == (400, "bad_query")
    assert "item 0 of 'red'" in scarlet.json()["error"]["message"]
    elsewhere = {"sec-fetch-site": "cross-site"}
    for path in ("/api/classes", "/api/identify"):
        assert client.post(path, files={"image": ("x", good())}, headers=elsewhere).status_code == 403
    assert client.get("/api/index").json()["items"] == before


def test_a_search_with_a_least_probability(client: httpx.Client) -> None:
    def search_by(data: bytes, **fields: object) -> httpx.Response:
        return client.post("/api/search", files={"image": ("x", data)}, data=fields)

    hits = search_by(good("PNG", "red", 50)).json()["hits"]
    shares = [hit["probability"] for hit in hits]
    assert shares == sorted(shares, reverse=True)
    assert [hit["weak"] for hit in hits] == [share < 0.1 for share in shares]
    assert [hit["label"] for hit in hits] == ["red"] * 3 + ["green"] * 3
    strong = search_by(good("PNG", "red", 50), min_probability=0.5).json()["hits"]
    assert strong == [hit for hit in hits if hit["probability"] >= 0.5] != hits
    words = client.get("/api/search", params={"text": "red"}).json()["hits"]
    assert {hit["probability"] for hit in words} == {None}
    assert client.get("/api/search", params={"text": "red", "min_probability": 0.5}).status_code == 400
    for bad in (-0.1, 1.1, "nan"):
        assert search_by(good(), min_probability=bad).status_code == 422


def test_read_only_and_too_few_to_tell(built: Path, tmp_path: Path) -> None:
    with running(built, tmp_path / "log", read_only=True) as server, httpx.Client(base_url=server.url) as client:
        assert enrol(client, good(), name="black").status_code == 403
        assert ask(client, good("PNG", "red", 5), far=0.3).json()["name"] == "red"
        assert ask(client, good("PNG", "red", 5), far=0.3).json()["probability"] is None
        few = ask(client, good(), far=0.001)
        assert few.status_code == 400
        assert "so few classes" in few.json()["error"]["message"]


def test_the_page_says_who_it_is(browser: Browser, server: Running) -> None:
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.set_default_timeout(90_000)
    page.goto(server.url)
    page.wait_for_selector("button.card img")
    assert page.is_hidden("#who")

    def give(colour: str) -> None:
        file = {"name": "x.png", "mimeType": "image/png", "buffer": _png(colour, 77)}
        page.set_input_files("#file", files=[file])
        page.wait_for_selector("#who:not([hidden])")

    give("red")
    assert page.inner_text("#who b") == "red"
    assert "99%" in page.inner_text("#who")
    page.wait_for_selector("#grid:not(.waiting) meter")
    shares = page.locator(".note span:last-child").all_inner_texts()
    assert len(shares) == 6
    assert all(share.endswith("%") for share in shares)
    assert page.locator("#grid li.weak .label").all_inner_texts() == ["green"] * 3
    assert page.locator(".rest").all_inner_texts() == ["From here on the matches are weak."]
    page.keyboard.press("Escape")
    page.wait_for_selector("#who", state="hidden")
    give("blue")
    shown = page.inner_text("#who")
    assert shown.startswith("Unknown. More than one stranger in 100 would come as close to one of the 2 classes.")
    page.close()


def _png(colour: str, seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(colour, seed).save(buffer, "PNG")
    return buffer.getvalue()
