"""The page in a real Chromium: what a user does, and that nothing is asked of another site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pullpush import search
from tests.support.fake import FakeModel, picture
from tests.support.running import Running, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PASTE = """async (url) => {
    const blob = await (await fetch(url)).blob(), data = new DataTransfer();
    data.items.add(new File([blob], "pasted.webp", {type: "image/webp"}));
    window.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
}"""


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(built, tmp_path_factory.mktemp("page") / "log") as started:
        yield started


@pytest.fixture
def page(browser: Browser, server: Running) -> Iterator[Page]:
    """The page, opened; at the end: no error in its console, no request to another site."""
    with_errors, elsewhere = [], []
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(90_000)
    opened.on("pageerror", lambda error: with_errors.append(str(error)))
    opened.on("console", lambda m: with_errors.append(m.text) if m.type == "error" and "400" not in m.text else None)
    opened.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((server.url, "blob:")) else None)
    opened.goto(server.url)
    opened.wait_for_selector("button.card img")
    yield opened
    context.close()
    assert not with_errors
    assert not elsewhere


def labels(page: Page) -> set[str]:
    page.wait_for_selector("#grid:not(.waiting) meter")
    return set(page.locator("#grid .label").all_inner_texts()[:10])


def test_words_similar_and_less(page: Page) -> None:
    assert "120 items" in page.inner_text("#status")
    page.keyboard.press("/")
    page.keyboard.type("red square")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=closest first")
    assert labels(page) == {"red"}
    scores = [float(text) for text in page.locator(".note span:last-child").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)

    first = page.locator("#grid li").first.get_attribute("id")
    page.locator("button.card").first.click()
    page.wait_for_selector("#parts img")
    page.wait_for_selector(f"#{first}", state="detached")
    assert labels(page) == {"red"}
    page.go_back()
    page.wait_for_selector("#parts li", state="detached")
    assert page.input_value("#text") == "red square"

    page.wait_for_selector(f"#{first}")
    page.hover(f"#{first}")
    page.click(f"#{first} .less")
    page.wait_for_selector("#parts li.minus")
    page.wait_for_selector(f"#{first}", state="detached")
    page.keyboard.press("Escape")
    page.wait_for_selector("text=Here are some of them")


def test_a_picture_is_picked_pasted_and_refused(page: Page, tmp_path: Path) -> None:
    picture("yellow", 3).save(tmp_path / "a.png")
    page.set_input_files("#file", tmp_path / "a.png")
    page.wait_for_selector("#parts canvas")
    page.wait_for_selector("text=closest first")
    assert labels(page) == {"yellow"}
    page.evaluate(PASTE, "/api/items/0/thumbnail")
    page.wait_for_selector("#grid li:first-child .label:text-is('black')")
    (tmp_path / "bad.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    page.set_input_files("#file", tmp_path / "bad.png")
    page.wait_for_selector("#message.bad")
    assert "damaged or cut off" in page.inner_text("#message")
    (tmp_path / "bad.svg").write_text("<svg/>")
    page.set_input_files("#file", tmp_path / "bad.svg")
    page.wait_for_selector("text=Images can be PNG")


def test_nothing_close_more_and_a_filter(page: Page) -> None:
    page.fill("#text", "zebra")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Nothing is close to what you asked for")
    assert page.locator("button.card").count() == 60
    page.click("text=Show more")
    page.wait_for_selector("text=120 items, closest first")
    ids = page.evaluate("[...document.querySelectorAll('#grid li[id]')].map((item) => item.id)")
    assert len(ids) == len(set(ids)) == 120
    assert page.locator(".rest").count() == 1
    assert not page.is_visible("#more")
    page.fill("#text", "red")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=From here on the matches are weak")
    strong = page.locator("#grid > li").evaluate_all(
        "(items) => items.slice(0, items.findIndex((item) => item.className === 'rest')).map((item) => item.className)"
    )
    assert len(strong) >= 20
    assert not any(strong)
    page.keyboard.press("Escape")
    page.wait_for_selector("text=Here are some of them")
    page.click("#more")
    page.wait_for_function("document.querySelectorAll('button.card').length > 48")
    page.select_option("#filters select[name=label]", "blue")
    page.fill("#text", "blue")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=20 items, closest first")
    assert labels(page) == {"blue"}
    assert "label=blue" in page.url
    page.reload()
    page.wait_for_selector("text=20 items, closest first")


def test_the_keyboard_walks_the_grid(page: Page) -> None:
    page.keyboard.press("ArrowRight")
    focused = "[...document.querySelectorAll('button.card')].indexOf(document.activeElement)"
    assert page.evaluate(focused) == 1 or page.evaluate(focused) == 0
    start = page.evaluate(focused)
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == start + 1
    page.keyboard.press("ArrowDown")
    below = page.evaluate(focused)
    assert below > start + 2
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == start + 1
    page.keyboard.press("Enter")
    page.wait_for_selector("text=closest first")
    page.keyboard.press("m")
    page.wait_for_selector("#canvas", state="visible")


def test_the_map(page: Page) -> None:
    page.click("#tab-map")
    page.wait_for_selector("#legend button")
    assert {b.inner_text() for b in page.locator("#legend button").all()} >= {"red", "blue"}
    places = page.evaluate("fetch('/api/map?by=').then((a) => a.json())")
    box = page.locator("#canvas").bounding_box()
    scale = min(box["width"], box["height"]) * 0.46
    stretch = min(max(box["width"] / box["height"], 1), 1.8)
    x = box["x"] + box["width"] / 2 + places["x"][0] * scale * stretch
    y = box["y"] + box["height"] / 2 + places["y"][0] * scale * min(max(box["height"] / box["width"], 1), 1.8)
    page.mouse.move(x, y)
    page.wait_for_selector("#tip", state="visible")
    assert page.inner_text("#tip") == places["label"][0]
    before = page.evaluate("document.getElementById('canvas').toDataURL()")
    page.mouse.wheel(0, -600)
    for _ in range(100):
        if page.evaluate("document.getElementById('canvas').toDataURL()") != before:
            break
        page.wait_for_timeout(50)
    assert page.evaluate("document.getElementById('canvas').toDataURL()") != before, "the wheel zooms"
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    page.wait_for_selector("text=closest first")
    assert labels(page) == {places["label"][0]}


def test_a_phone(browser: Browser, server: Running) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{server.url}/?text=green")
    page.wait_for_selector("meter", timeout=90_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("#text").bounding_box()["width"] > 120
    heights = page.evaluate("[...document.querySelectorAll('button')].map((b) => b.offsetHeight).filter(Boolean)")
    assert min(heights) >= 24, "large enough for a finger"
    page.tap("#tab-map")
    page.wait_for_selector("#legend button")
    assert page.locator("#canvas").bounding_box()["width"] > 350
    context.close()


def test_without_a_text_tower_and_with_a_token(pictures: Path, browser: Browser, tmp_path: Path) -> None:
    search.build_index(FakeModel(text=False), pictures, tmp_path / "index", projection="pca")
    with running(tmp_path / "index", tmp_path / "log", model={"text": False}, token="letmein123") as server:
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.goto(server.url)
        page.fill("#secret", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=That is not the token")
        page.fill("#secret", "letmein123")
        page.keyboard.press("Enter")
        page.wait_for_selector("button.card img")
        assert page.is_disabled("#text")
        assert "images alone" in page.inner_text("#hint")
        page.locator("button.card").first.click()
        page.wait_for_selector("text=closest first")
        context.close()


def test_a_server_that_is_gone(built: Path, browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(90_000)
    with running(built, tmp_path / "log") as server:
        page.goto(server.url)
        page.wait_for_selector("button.card")
    page.fill("#text", "red")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=The server does not answer")
    context.close()


def test_the_switch_re_ranks_as_the_model_has_chosen(
    browser: Browser, index: Path, tmp_path: Path, server: Running
) -> None:
    """It is there where the model has a choice, off, and says why; what it is set to stands in the address."""
    search.add(index, [picture("red", 4711)], FakeModel(rerank="expand=4,augment=3"))
    with running(index, tmp_path / "log") as other, browser.new_context() as context:
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector("button.card img")
        assert not page.is_visible("#order")
        page.goto(f"{other.url}/?like=70")
        page.wait_for_selector("text=closest first")
        before = page.locator("#grid li[id]").evaluate_all("(cards) => cards.map((card) => card.id)")
        assert not page.is_checked("#rerank")
        assert "expand=4,augment=3" in page.get_attribute("#order", "title")
        page.check("#rerank")
        page.wait_for_selector("text=re-ranked")
        after = page.locator("#grid li[id]").evaluate_all("(cards) => cards.map((card) => card.id)")
        assert len(after) == len(before)
        assert after != before
        assert page.url.endswith("rerank=auto")
        page.reload()
        page.wait_for_selector("text=re-ranked")
        page.uncheck("#rerank")
        page.wait_for_selector("text=closest first")
