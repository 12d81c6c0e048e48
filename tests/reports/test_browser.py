"""The page in a real browser: quiet, alone, and alive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


POINT = """() => {
  const plot = Bokeh.documents[0].roots()[0]
  const view = [...Bokeh.index][0]
  const {x, y} = plot.renderers[0].data_source.data
  const box = document.querySelector('.map').getBoundingClientRect()
  return [box.x + view.frame.x_scale.compute(x[0]), box.y + view.frame.y_scale.compute(y[0])]
}"""
# Columns that a name without a blank pushes out of sight.
LONG_NAMES = """() => [...document.querySelectorAll('.block:not(.full) .scroll')].filter((table) => {
  for (const name of table.querySelectorAll('tbody th')) name.textContent = 'ComputersDevicesElectronicsProgramming'
  return table.scrollWidth > table.clientWidth
}).map((table) => table.textContent)"""
SELECTED = "() => Bokeh.documents[0].roots()[0].renderers[0].data_source.selected.indices.length"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_no_errors_no_requests_and_nothing_wider_than_the_window(
    browser: Browser, page: Path, width: int, scheme: str
) -> None:
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    problems: list[str] = []
    view.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    view.on("pageerror", lambda error: problems.append(str(error)))
    requests: list[str] = []
    view.on("request", lambda r: requests.append(r.url))
    view.goto(page.as_uri())
    view.wait_for_selector(".map canvas")
    assert not problems
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [page.as_uri()]
    assert view.evaluate("document.documentElement.scrollWidth") == width
    assert view.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert view.evaluate(LONG_NAMES) == []
    paper = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(24, 27, 32)")
    view.close()


def test_the_map_shows_the_picture_under_the_pointer_and_lights_up_its_class(browser: Browser, page: Path) -> None:
    view = browser.new_page(viewport={"width": 1280, "height": 900})
    view.goto(page.as_uri())
    view.wait_for_selector(".map canvas")
    view.locator(".map").scroll_into_view_if_needed()
    x, y = view.evaluate(POINT)
    view.mouse.move(x + 60, y + 60)
    view.mouse.move(x, y, steps=4)
    picture = view.locator(".bk-Tooltip img").or_(view.locator("img[width='64']"))
    picture.first.wait_for(state="visible")
    assert (picture.first.get_attribute("src") or "").startswith("data:image/webp;base64,")
    assert picture.first.evaluate("(image) => image.naturalWidth") == 56
    assert view.evaluate(SELECTED) == 6  # the whole class of the item, and no other
    view.close()
