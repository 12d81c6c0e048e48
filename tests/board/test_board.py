"""The board: what it reads of a run, how it is asked over HTTP, and its page in a real browser."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pullpush import UserError, cli
from pullpush.board import live
from pullpush.board.state import folders, run_state
from pullpush.evaluation import evaluate
from pullpush.runs.retrieved import HITS, QUERIES, append_retrieved
from tests.reports.conftest import EACH, make_run
from tests.support.browser import browser
from tests.training.conftest import photos, small

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "photos", "small"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: one that is done, and one that was stopped at its second validation; and what is none."""
    root = tmp_path_factory.mktemp("board") / "runs"
    for name, seed in (("done", 0), ("stopped", 1)):
        folder = make_run(root / name, seed)
        rng, labels = np.random.default_rng(seed), np.repeat(np.arange(6), EACH)
        for step, noise in ((0, 3.0), (30, 0.0)):
            append_retrieved(folder, step, evaluate(np.eye(6)[labels] + noise * rng.normal(size=(36, 6)), labels))
    (root / "done" / "report.html").write_text("<title>a report</title><script>document.title = 'ran'</script>")
    found = {"step": 3, "finding": "over_fitting", "severity": "warning", "evidence": {"drop": 0.25}, "advice": "a < b"}
    (root / "done" / "findings.jsonl").write_text(json.dumps(found) + "\n")
    (root / "stopped" / "metrics.json").unlink()
    (root / "stopped" / "config.yaml").write_text("data:\n  source: '<b>&'\nloss:\n  name: circle\nsteps: 300\n")
    (root / "none").mkdir()
    (root / "elsewhere").symlink_to(make_run(root.parent / "secret"))
    return root


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with live(root, port=0) as page:
        yield page.address


def test_a_run_as_the_page_shows_it(root: Path) -> None:
    assert [each.name for each in sorted(folders(root))] == ["done", "stopped"]
    state = run_state(root / "done")
    assert (state["state"], state["test"]["after"]["recall@1"], state["pages"]) == ("finished", 0.8375, ["report.html"])
    assert len(state["curves"]["loss"]["train/loss"]) == 300
    assert state["curves"]["found"]["validation/recall@1"][0] == [30, pytest.approx(0.53)]
    assert (state["problems"][0]["finding"], state["problems"][0]["evidence"]) == ("over_fitting", "drop 0.25")
    first, last = (each["rows"] for each in state["retrieved"])
    assert len(last) == QUERIES
    for row in last:  # every class has five others, which all stand first
        assert [hit["right"] for hit in row["hits"]] == [True] * (EACH - 1) + [False] * (HITS - EACH + 1)
        assert row["there"] == EACH - 1
    assert [row["query"] for row in first] == [row["query"] for row in last]
    right = sum(hit["right"] for row in first for hit in row["hits"])
    assert right < sum(hit["right"] for row in last for hit in row["hits"])


def test_states_of_a_run(root: Path, tmp_path: Path) -> None:
    assert run_state(root / "stopped")["state"] == "stopped"
    folder = make_run(tmp_path / "run")
    (folder / "metrics.json").unlink()
    (folder / ".lock").write_text(str(os.getpid()))
    for steps, state in ((301, "training"), (300, "testing")):
        (folder / "config.yaml").write_text(f"steps: {steps}\n")
        assert run_state(folder)["state"] == state
    (folder / "log.jsonl").unlink()
    assert run_state(folder)["state"] == "preparing"
    (folder / ".lock").write_text("no number")
    assert run_state(folder)["state"] == "stopped"


def test_a_run_half_written_is_shown_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    for name in ("items.parquet", "retrieved.jsonl", "metrics.json", "config.yaml", "findings.jsonl"):
        (folder / name).write_text("{[")
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 301, "train/lo')
    state = run_state(folder)
    assert (state["retrieved"], state["sample"], state["problems"]) == ([], [], [])
    assert len(state["curves"]["loss"]["train/loss"]) == 300


@pytest.mark.parametrize("content", [None, b"{["])
def test_texts_that_cannot_be_read_leave_the_rest_of_the_page(tmp_path: Path, content: bytes | None) -> None:
    folder = make_run(tmp_path / "run")
    line = {"step": 0, "texts": True, "queries": [0], "hits": [[0]]}
    (folder / "retrieved.jsonl").write_text(json.dumps(line) + "\n")
    if content is not None:
        (folder / "texts.parquet").write_bytes(content)
    state = run_state(folder)
    assert (state["retrieved"], len(state["curves"]["loss"]["train/loss"])) == ([], 300)


def test_over_http(address: str) -> None:
    listed = httpx.get(f"{address}/api/runs").json()
    assert {run["name"]: run["state"] for run in listed["runs"]} == {"done": "finished", "stopped": "stopped"}
    row = httpx.get(f"{address}/api/runs/done").json()["retrieved"][0]["rows"][0]["query"]["image"]
    answer = httpx.get(f"{address}/api/runs/done/images/{row}")
    assert Image.open(io.BytesIO(answer.content)).size == (40, 32)
    report = httpx.get(f"{address}/runs/done/report.html")
    assert "sandbox allow-scripts" in report.headers["content-security-policy"]
    assert "a report" in report.text
    assert "What do these numbers mean?" in httpx.get(f"{address}/numbers").text


@pytest.mark.parametrize(
    "path",
    [
        *("/api/runs/elsewhere", "/api/runs/none", "/api/runs/..", "/api/runs/%2e%2e", "/api/runs/done%2f..%2fdone"),
        *("/runs/done/metrics.json", "/runs/done/..%2fconfig.yaml", "/runs/stopped/report.html"),
        *("/api/runs/done/images/100000", "/api/runs/done/images/-1"),
    ],
)
def test_what_is_not_of_a_run_is_not_given(address: str, path: str) -> None:
    assert httpx.get(address + path).status_code == 404


def test_it_only_reads_and_answers_to_its_own_name(address: str) -> None:
    assert httpx.post(f"{address}/api/runs/done").status_code == 405
    assert httpx.get(f"{address}/api/runs", headers={"host": "elsewhere.example"}).status_code == 421
    assert httpx.get(f"{address}/api/runs", headers={"origin": "http://elsewhere.example"}).status_code == 403


def test_where_there_is_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["board", str(tmp_path / "gone")]) == 2
    assert "gone': give the one that holds the runs" in capsys.readouterr().err
    with live(tmp_path / "new", port=0) as page:
        assert httpx.get(f"{page.address}/api/runs").json()["runs"] == []
    with live(tmp_path / "run" / "of", port=0) as first, live(tmp_path, int(first.address.rsplit(":", 1)[1])) as other:
        assert other.address != first.address  # the port was taken
    with pytest.raises(UserError, match="token"):
        cli_board("0.0.0.0", tmp_path)


def cli_board(host: str, root: Path) -> None:
    from pullpush.board import board

    board(root, host=host, port=0)


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens a page; at the end: no error in its console, no request to another site."""
    wrong: list[str] = []
    context = browser.new_context()

    def opened(path: str, width: int = 1280) -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda asked: None if asked.url.startswith(address) else wrong.append(asked.url))
        page.goto(address + path)
        return page

    yield opened
    context.close()
    assert not wrong


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_of_a_run(page: Callable[..., Page], width: int) -> None:
    opened = page("/#done", width)
    opened.wait_for_selector("#grid figure.right")
    last = opened.locator("#grid figure.right").count()
    assert last == QUERIES * (EACH - 1)
    assert f"step 30: {last} of {last} found" in opened.inner_text("#at")
    opened.locator("#slider").fill("0")
    opened.wait_for_function("document.getElementById('at').textContent.startsWith('untrained')")
    assert opened.locator("#grid figure.right").count() < last
    assert opened.locator("svg.chart").count() == 2
    assert "step 3: drop 0.25 a < b" in " ".join(opened.inner_text("#findings").split())
    assert "0.838" in opened.inner_text("#results")
    assert opened.get_attribute("#links a", "href") == "/runs/done/report.html"
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_the_list_of_runs_side_by_side(page: Callable[..., Page]) -> None:
    opened = page("/")
    opened.wait_for_selector("#runs tbody tr")
    assert "<b>&" in opened.inner_text("#runs")  # as text
    opened.locator("#runs input").first.check()
    opened.locator("#runs input").last.check()
    opened.wait_for_selector("#compared svg path.c2")
    opened.locator("#runs a", has_text="stopped").click()
    opened.wait_for_selector("#status:has-text('--resume')")


def test_a_page_that_is_open_before_its_run_has_begun(page: Callable[..., Page], root: Path) -> None:
    opened = page("/#later")
    opened.wait_for_selector("#message:has-text('there is no run later yet')")
    shutil.copytree(root / "done", root / "later")
    try:
        opened.wait_for_selector("#grid figure.right")
        assert opened.is_hidden("#message")
        opened.close()
    finally:
        shutil.rmtree(root / "later")


def test_a_run_that_is_shown_while_it_trains(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(httpx.get(address).status_code))
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps({**small, "steps": 4}))
    assert cli.main(["train", "--config", str(file), "--out", str(tmp_path / "runs" / "one"), "--live"]) == 0
    assert opened == [200]
    state = run_state(tmp_path / "runs" / "one")
    assert [each["step"] for each in state["retrieved"]] == [0, 4]


def test_a_demo_that_is_done_is_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", "--out", str(root / "done"), "--port", "0", "--browser", "false", "--serve", "false"]
    assert cli.main(words) == 0
    assert "/#done" in capsys.readouterr().out
