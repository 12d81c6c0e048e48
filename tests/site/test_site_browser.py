"""Every page of the site in Chromium, wide and on a phone; search from a server and from the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]

pytestmark = pytest.mark.slow
# What a page shows that it should not: an image that did not load, a formula that KaTeX could not read or that is still
# as it was written, and whatever makes the page wider than its window.
WRONG = """async () => {
  await document.fonts.ready;
  const all = selector => [...document.querySelectorAll(selector)];
  const wide = document.documentElement.scrollWidth;
  return [
    ...all("img").filter(each => each.getClientRects().length && !each.naturalWidth).map(each => each.src),
    ...all(".katex-error").map(each => each.title),
    ...all(".arithmatex").filter(each => !each.querySelector(".katex")).map(each => each.textContent),
    ...(wide > innerWidth ? [`${wide} px wide`] : []),
  ];
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def watched(page: Page, host: str) -> list[str]:
    """What goes wrong on a page from now on."""
    seen: list[str] = []
    page.on("console", lambda said: seen.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("requestfailed", lambda request: seen.append(f"failed: {request.url}"))
    page.on("response", lambda answer: seen.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None)
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((host, "data:", "blob:")) else seen.append(f"elsewhere: {request.url}")
        ),
    )
    return seen


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_every_page_is_whole(width: int, dark: bool, site: Path, address: str, browser: Browser) -> None:
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    seen, wrong = watched(page, address), {}
    for name in names:
        page.goto(f"{address}/{name}", wait_until="networkidle")
        if bad := [*seen, *page.evaluate(WRONG)]:
            wrong[name] = bad
        seen.clear()
    context.close()
    assert len(names) > 90
    assert wrong == {}


@pytest.mark.parametrize("disk", [False, True], ids=["served", "from the disk"])
def test_search_finds_a_loss(disk: bool, site: Path, address: str, browser: Browser) -> None:
    start = f"file://{site}" if disk else address
    page = browser.new_page()
    seen = watched(page, start)
    page.goto(f"{start}/index.html")
    page.fill("input[name=query]", "circle")
    page.wait_for_selector(".md-search-result__link")
    assert any(
        "losses/circle" in str(each.get_attribute("href"))
        for each in page.query_selector_all(".md-search-result__link")
    )
    assert [each for each in seen if not each.startswith("elsewhere: about:")] == []
    page.close()


def test_what_is_wrong_with_a_page_would_be_seen(address: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 900})
    seen = watched(page, address)
    page.goto(f"{address}/index.html", wait_until="networkidle")
    assert page.evaluate(WRONG) == seen == []
    with page.expect_response(f"{address}/gone.png"):
        page.evaluate(
            """() => document.querySelector("article").insertAdjacentHTML("beforeend",
            '<div style="width: 900px">wide</div><img src="gone.png"><span class="arithmatex">raw</span>')"""
        )
    assert [str(each).rpartition("/")[2] for each in page.evaluate(WRONG)] == ["gone.png", "raw", "916 px wide"]
    assert f"404: {address}/gone.png" in seen
    page.close()
