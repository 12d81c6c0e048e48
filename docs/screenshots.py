"""Draws docs/images/search-*.webp: a real run on Fashion-MNIST (MIT licence), served and looked at in Chromium.

    python docs/screenshots.py FOLDER

FOLDER takes the pictures, the run and the index; what is there already is used again.
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
from pullpush.data.sources import open_items
from pullpush.server.app import make_app
from pullpush.server.middleware import Rules
from pullpush.server.service import Service

IMAGES = Path(__file__).parent / "images"
EACH = 300
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
    """The first pictures of each class as PNG files, with a manifest; one class is the test, one the validation."""
    items, rows = open_items("fashion-mnist"), []
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for label, name in enumerate(items.classes):
        for row in np.flatnonzero(items.labels.numpy() == label)[:EACH]:
            path = folder / "pictures" / f"{row}.png"
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


def shot(browser: Browser, url: str, width: int, height: int, dark: bool, where: str = "") -> Image.Image:
    """The page in a window of that size; `where` is clicked first."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=1.5, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("button.card img")
    page.wait_for_load_state("networkidle")
    if where:
        page.click(where)
        page.wait_for_selector("#legend button")
    page.wait_for_timeout(800)
    picture = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    return picture.convert("RGB")


def main() -> None:
    folder = Path(sys.argv[1])
    server, url = serve(prepare(folder))
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        text = f"{url}/?text=a+shoe+for+running"
        shot(browser, text, 1080, 720, dark=False).save(IMAGES / "search-light.webp", quality=85)
        shot(browser, url, 1080, 720, dark=False, where="#tab-map").save(IMAGES / "search-map.webp", quality=85)
        wide, phone = shot(browser, text, 1080, 720, dark=True), shot(browser, text, 400, 720, dark=True)
        both = Image.new("RGB", (wide.width + phone.width + 30, wide.height), "white")
        both.paste(wide, (0, 0))
        both.paste(phone, (wide.width + 30, 0))
        both.save(IMAGES / "search-dark-phone.webp", quality=85)
        browser.close()
    server.should_exit = True


if __name__ == "__main__":
    main()
