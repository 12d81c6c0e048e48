"""A model that another runtime computes, behind the command and the page."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pullpush.data.synthetic import make_tree
from pullpush.encoders import ImageEncoder, save
from pullpush.search import build_index, open

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_the_page_searches_by_onnx_as_by_pytorch(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra export")
    tree = make_tree("folder", tmp_path / "images")
    save(tmp_path / "model", ImageEncoder("test_efficientnet", weights="none", size=32, dim=16))
    build_index(tmp_path / "model", tree, tmp_path / "index", projection="none")
    asked = next(each for each in sorted(tree.rglob("*")) if each.suffix in (".jpg", ".png"))
    wanted = [f"{hit.score:.2f}" for hit in open(tmp_path / "index").query(image=str(asked), k=10)]
    words = [sys.executable, "-m", "pullpush", "serve", str(tmp_path / "index"), "--port", "0", "--runtime", "onnx"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            page = browser.new_page()
            page.set_default_timeout(60_000)
            page.goto(server.stdout.readline().removeprefix("serving at ").strip())
            page.wait_for_selector("button.card img")
            page.set_input_files("#file", asked)
            page.wait_for_selector("text=closest first")
            page.wait_for_selector("#grid:not(.waiting) meter")
            shown = page.locator("#grid .note span:last-child").all_inner_texts()[:10]
            assert [f"{float(each):.2f}" for each in shown] == wanted
            page.close()
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode in (0, -signal.SIGTERM)  # it has ended by itself, and says by what it was asked to
