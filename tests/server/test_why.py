"""Why an item matches, over HTTP and on the page."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pullpush import search
from pullpush.server.decoders import Busy
from pullpush.server.service import Service
from tests.support.fake import FakeModel
from tests.support.hostile import good
from tests.support.running import Running, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(built, tmp_path_factory.mktemp("why") / "log") as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened


def image_of(uri: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_of_an_item_and_of_an_upload(client: httpx.Client, built: Path) -> None:
    engine = search.open(built, FakeModel())
    hit = engine.query(like=4, k=1)[0]
    found = client.get(f"/api/items/{hit.id}/why", params={"like": 4}).json()
    assert found["score"] == pytest.approx(hit.score, abs=0.02)  # the small copies of files differ by a grey level
    assert found["exact"]
    assert image_of(found["query"]).shape == image_of(found["item"]).shape == (256, 256, 3)
    answer = client.post(f"/api/items/{hit.id}/why", files={"image": ("x", good("JPEG", "blue"))})
    assert answer.status_code == 200
    assert answer.json()["score"] <= 1
    same = client.get("/api/items/4/why", params={"like": 4}).json()
    assert same["score"] == pytest.approx(1)
    assert same["query"] == same["item"]


def test_what_is_refused(client: httpx.Client) -> None:
    assert client.get("/api/items/99999/why", params={"like": 4}).status_code == 404
    assert client.get("/api/items/4/why", params={"like": 99999}).status_code == 404
    assert client.get("/api/items/4/why").status_code == 422
    assert client.post("/api/items/4/why", files={"image": ("x", b"no image")}).status_code == 415
    assert client.get("/api/items/4/why", params={"like": 4}).status_code == 200


def test_one_at_a_time(built: Path) -> None:
    """A second one is told to come again; searches go on."""
    begun, goes_on = threading.Event(), threading.Event()

    class Slow(FakeModel):
        def explain(self, *images: Any, **options: Any) -> Any:
            begun.set()
            goes_on.wait(20)
            return super().explain(*images, **options)

    async def both() -> None:
        service = Service(search.open(built, Slow()))
        await service.start()
        first = asyncio.create_task(service.why(3, None, 4))
        await asyncio.to_thread(begun.wait, 20)
        with pytest.raises(Busy):
            await service.why(3, None, 5)
        goes_on.set()
        assert (await first).exact
        assert (await service.why(3, None, 5)).exact
        await service.close()

    asyncio.run(both())


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (400, "dark")])
def test_on_the_page(browser: Browser, server: Running, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.goto(server.url)
    page.wait_for_selector("button.card img")
    assert page.locator(".why").count() == 0  # nothing was asked for yet
    page.locator("button.card").first.click()
    page.wait_for_selector("#grid:not(.waiting) meter")
    page.locator(".why").first.click(force=True)
    page.wait_for_selector("#why[open]")
    assert 0.9 < float(page.inner_text("#why-score").removeprefix("Cosine ")) <= 1
    assert "exactly" in page.inner_text("#why-how")
    painted = "(c) => c.width === 256 && c.getContext('2d').getImageData(128, 128, 1, 1).data[3] === 255"
    assert page.locator("#why-a").evaluate(painted)
    assert page.locator("#why-b").evaluate(painted)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("#why .go")
    page.wait_for_selector("#why", state="hidden")
    assert not problems
    context.close()
