"""Draws docs/images/, each light and dark: the board, the report and the search page in Chromium, and the gallery's
figures of the demo run.

    python docs/screenshots.py FOLDER

The searches are of a run on Fashion-MNIST (MIT licence). FOLDER takes both runs, the images and the index; what is
there already is used again.
"""

import io
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from pullpush import search
from pullpush.board import Board
from pullpush.data.sources import open_items
from pullpush.reports.context import Context
from pullpush.reports.layout import build
from pullpush.runs.reader import RunFolder
from pullpush.server.app import make_app
from pullpush.server.middleware import Rules
from pullpush.server.service import Service

IMAGES = Path(__file__).parent / "images"
EACH = 300
FIGURES = ("loss", "validation_recall", "similarities", "class_recall", "maps")
# Several descriptions a class, as people would name it.
SAID = {
    "T-shirt/top": "a T-shirt|a short-sleeved top",
    "Trouser": "trousers|a pair of pants",
    "Pullover": "a pullover|a sweater with long sleeves",
    "Dress": "a dress|a long dress",
    "Coat": "a coat|a warm coat",
    "Sandal": "a sandal|an open summer shoe",
    "Shirt": "a shirt|a shirt with buttons",
    "Sneaker": "a sneaker|a running shoe",
    "Bag": "a bag|a handbag",
    "Ankle boot": "an ankle boot|a boot",
}


def make_data(folder: Path) -> Path:
    """The first images of each class as PNG files, with a manifest; one class is the test, one the validation."""
    items, rows = open_items("fashion-mnist"), []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for label, name in enumerate(items.classes):
        for row in np.flatnonzero(items.labels.numpy() == label)[:EACH]:
            path = folder / "images" / f"{row}.png"
            items.open(int(row)).resize((84, 84), Image.Resampling.LANCZOS).save(path)
            rows.append({"path": str(path), "label": name, "text": SAID[name]})
    pd.DataFrame(rows).to_csv(folder / "items.csv", index=False)
    return folder / "items.csv"


def pullpush(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pullpush", *words], check=True)


def prepare(folder: Path) -> Path:
    """The index of a run that was trained with descriptions."""
    data = folder / "items.csv"
    if not data.exists():
        make_data(folder)
    if not (folder / "run" / "metrics.json").exists():
        shutil.rmtree(folder / "run", ignore_errors=True)
        pullpush(
            "train",
            "--task",
            "image-text",
            "--data",
            str(data),
            "--data.test",
            "0.1",
            "--batch.classes",
            "8",
            "--batch.samples",
            "16",
            "--steps",
            "200",
            "--report",
            "false",
            "--out",
            str(folder / "run"),
        )
    if not (folder / "index").exists():
        pullpush("index", str(folder / "run"), "--data", str(data), "--out", str(folder / "index"))
    return folder / "index"


def serve(index: Path) -> tuple[uvicorn.Server, str]:
    service = Service(search.open(index))
    service.warm()
    server = uvicorn.Server(uvicorn.Config(make_app(service, Rules()), port=0, log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def demo(folder: Path) -> tuple[Board, Path]:
    """The demo run on a board."""
    if not (folder / "demo" / "report.html").exists():
        pullpush("train", "--out", str(folder / "demo"))
    board = Board(folder / "demo", port=0)
    threading.Thread(target=board.run, daemon=True).start()
    return board, folder / "demo" / "report.html"


def draw_figures(run: Path) -> None:
    """The gallery's figures, as they are in the report of a run."""
    for block in (block for section in build(Context(RunFolder(run), 50)) for block in section.blocks):
        if block.figure and (name := block.figure.path.stem) in FIGURES:
            for path, drawn in ((f"{name}.png", block.figure.light), (f"{name}-dark.png", block.figure.dark)):
                Image.open(io.BytesIO(drawn)).convert("RGB").save(IMAGES / path, optimize=True)


def shoot(
    browser: Browser, name: str, url: str, seen: str, width: int = 1080, height: int = 720, click: str = ""
) -> None:
    """NAME.webp and NAME-dark.webp: the page in a window of that size once `seen` is there, and `click` is clicked."""
    for dark in (False, True):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=1.5,
            color_scheme="dark" if dark else "light",
        )
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector(seen)
        if click:
            page.click(click)
            page.wait_for_selector("#legend button")
        page.wait_for_timeout(1500)  # thumbnails and transitions
        image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        image.save(IMAGES / f"{name}{'-dark' if dark else ''}.webp", quality=85)
        context.close()


def main() -> None:
    folder = Path(sys.argv[1])
    board, report = demo(folder)
    draw_figures(report.parent)
    server, url = serve(prepare(folder))
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        shoot(browser, "board", f"{board.address}/#{report.parent.name}", "#grid img", 1280, 830)
        shoot(browser, "report", report.resolve().as_uri(), "img")
        shoot(browser, "search", f"{url}/?text=a+shoe+for+running", "button.card img")
        shoot(browser, "search-phone", f"{url}/?text=a+shoe+for+running", "button.card img", 400)
        shoot(browser, "search-map", url, "button.card img", click="#tab-map")
        browser.close()
    server.should_exit = True
    board.stop()


if __name__ == "__main__":
    main()
