"""The cards of the page: images of any shape whole, the text as their title, one scale for all bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from PIL import Image

from pullpush import search
from tests.support.fake import COLOURS, FakeModel
from tests.support.running import Running, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SHAPES = {"tall": (60, 240), "wide": (300, 60), "square": (150, 150)}
# What of the image's box is on the screen, and its share of the tile; the tile's own colour would be a hole.
PLACED = """(card) => {
  const image = card.querySelector('.tile img'), tile = card.querySelector('.tile'), fit = getComputedStyle(image)
  const inside = getComputedStyle(tile, '::before')
  const box = image.getBoundingClientRect(), around = tile.getBoundingClientRect()
  const within = box.top >= around.top - 1 && box.bottom <= around.bottom + 1 && box.right <= around.right + 1
  return {within, fit: fit.objectFit, natural: image.naturalWidth / image.naturalHeight,
          padding: parseFloat(fit.paddingTop),
          ground: inside.backgroundImage, size: inside.backgroundSize}
}"""
CONTRAST = """() => [...document.querySelectorAll('a')].map((link) => {
  const light = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g)
      .map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ink = light(getComputedStyle(link).color)
  const paper = light(getComputedStyle(document.documentElement).backgroundColor)
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)
})"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Pairs of image and text without classes, of three shapes."""
    root, rows = tmp_path_factory.mktemp("cards"), []
    for shape, size in SHAPES.items():
        for colour, rgb in COLOURS.items():
            path = root / f"{shape}-{colour}.png"
            Image.new("RGB", size, rgb).save(path)
            rows.append({"path": str(path), "text": f"a {shape} {colour} thing"})
    pd.DataFrame(rows).to_csv(root / "pairs.csv", index=False)
    search.build_index(FakeModel(), root / "pairs.csv", root / "index", projection="pca")
    with running(root / "index", root / "log") as started:
        yield started


def test_pictures_are_whole_titles_are_texts_and_bars_have_one_scale(browser: Browser, server: Running) -> None:
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.set_default_timeout(90_000)
    page.goto(server.url)
    page.wait_for_selector("button.card img")
    assert all(" thing" in name for name in page.locator("#grid .label").all_inner_texts())
    page.fill("#text", "red")
    page.keyboard.press("Enter")
    page.wait_for_selector("meter")
    page.wait_for_function("[...document.querySelectorAll('.card img')].every((image) => image.naturalWidth)")
    assert all(" thing" in name for name in page.locator("#grid .label").all_inner_texts())
    cards = [card.evaluate(PLACED) for card in page.locator("button.card").all()]
    assert {round(card["natural"], 1) for card in cards} > {0.2, 5.0}
    for card in cards:
        assert card["within"]
        assert card["fit"] == "contain"  # nothing is cut off
        assert card["padding"] == 0 or abs(card["natural"] - 1) < 0.3
        if abs(card["natural"] - 1) > 0.3:  # what the image leaves of its tile is filled with the image itself
            assert "/thumbnail" in card["ground"]
            assert card["size"] == "cover"
    bars = page.evaluate("[...document.querySelectorAll('meter')].map((bar) => [bar.value, bar.min, bar.max])")
    scores = [float(text) for text in page.locator(".note span:last-child").all_inner_texts()]
    assert [value for value, _, _ in bars] == pytest.approx([max(score, 0) for score in scores], abs=0.006)
    assert {tuple(ends) for _, *ends in bars} == {(0, 1)}
    page.close()


def test_the_map_names_items_by_their_text(browser: Browser, server: Running) -> None:
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(server.url)
    page.click("#tab-map")
    page.wait_for_selector("#legend label")
    canvas, legend = (page.locator(name).bounding_box() for name in ("#canvas", "#legend"))
    assert legend["y"] >= canvas["y"] + canvas["height"] - 1  # off the points
    titles = page.evaluate("fetch('/api/map?by=').then((a) => a.json()).then((map) => map.title)")
    assert set(titles) == {f"a {shape} {colour} thing" for shape in SHAPES for colour in COLOURS}
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_links_of_the_api_docs_are_readable(browser: Browser, server: Running, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(f"{server.url}/docs")
    found = page.evaluate(CONTRAST)
    assert found
    assert min(found) >= 4.5  # WCAG 2.2, AA
    page.close()
