"""Progress of everything that takes long: lines in a pipe, a bar on a terminal, nothing where nobody asked."""

import io
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pullpush import progress
from pullpush.cli import main
from pullpush.data.synthetic import make_tree
from pullpush.evaluation import evaluate
from pullpush.evaluation.metrics import nmi
from pullpush.runs.log import read_log
from pullpush.training import display as display_module
from pullpush.training.display import Display

LINE = re.compile(r"checking images: \d+ of 40 images \(\d+%\), [\d.]+ images/s, \d+ s left")
SLOW = """
import time
from pullpush import progress
with progress.showing(), progress.work("checking images", 40) as work:
    for _ in range(40):
        time.sleep(0.05)
        work.advance()
    progress.say("done")
"""


def test_a_pipe_gets_lines_with_rate_and_time_left_and_no_carriage_return() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    assert LINE.search(done.stderr), done.stderr
    assert "\r" not in done.stderr + done.stdout
    assert "\x1b" not in done.stderr + done.stdout
    assert done.stdout == "done\n"


def _read(terminal: int) -> bytes:
    """All that is written on it until its other end is closed."""
    seen = b""
    with suppress(OSError):
        while part := os.read(terminal, 4096):
            seen += part
    return seen


def test_a_terminal_gets_a_bar() -> None:
    mine, its = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", SLOW], stdout=its, stderr=its, env={**os.environ, "TERM": "xterm"})
    os.close(its)
    seen = _read(mine)
    assert child.wait() == 0
    assert b"40 images (" in seen
    assert b"left" in seen
    assert b"done" in seen


NOTED = """
import time
from pullpush import progress
with progress.showing(), progress.work("training", 2000, "steps", 1234) as work:
    for _ in range(20):
        time.sleep(0.05)
        work.advance(1, "loss 0.1234, recall@1 0.512")
"""


def test_what_does_not_fit_beside_a_bar_stands_below_it() -> None:
    mine, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    child = subprocess.Popen([sys.executable, "-c", NOTED], stdout=its, stderr=its, env=environment)
    os.close(its)
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", _read(mine).decode()).replace("\r", "\n").splitlines()
    assert child.wait() == 0
    assert any(re.match(r"training .*1,2\d\d of 2,000 steps \(\d+%\).* left *$", line) for line in lines), lines
    assert any(line.rstrip() == "  loss 0.1234, recall@1 0.512" for line in lines), lines


def test_lines_come_every_few_seconds_of_the_innermost_work(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.3)
    with progress.showing(), progress.work("training", 10, "steps", done=4) as outer:
        outer.advance(2, "loss 0.5")
        time.sleep(1.3)
        with progress.work("reading photos"):
            time.sleep(0.6)
    lines = said.getvalue().splitlines()
    assert re.fullmatch(r"training: 6 of 10 steps \(60%\), .* steps/s, \d+ s left, loss 0.5", lines[0]), lines
    assert sum(line.startswith("training") for line in lines) >= 2
    assert any(re.fullmatch(r"reading photos: \d+ s so far", line) for line in lines), lines


def test_nothing_is_shown_unless_asked_for(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.0)
    with progress.work("alone", 3) as work:
        work.advance()
        time.sleep(0.5)
    with progress.showing(False), progress.showing(), progress.work("silenced", 3):
        time.sleep(0.5)
    assert capfd.readouterr() == ("", "")


def test_every_long_verb_says_what_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    kept = progress.Work.__init__

    def note(self: progress.Work, what: str, *rest: object, **named: object) -> None:
        begun.append(what)
        kept(self, what, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(progress.Work, "__init__", note)
    photos, run = make_tree("folder", tmp_path / "photos"), tmp_path / "run"
    options = [
        "--encoder.weights",
        "none",
        "--encoder.size",
        "32",
        "--steps",
        "2",
        "--tensorboard",
        "false",
        "--report",
        "false",
    ]
    shares = ["--data.test", "0.25", "--data.validation", "0.25"]
    ranked = {"ranking", "clustering"}
    verbs = {
        ("train", "--data", str(photos), "--out", str(run), *options, *shares): {
            "reading",
            "checking images",
            "decoding images",
            "embedding images",
            "training",
            *ranked,
        },
        ("evaluate", str(run), "--data", str(photos)): {"reading", "embedding images", *ranked},
        ("embed", str(run), "--data", str(photos), "--out", str(tmp_path / "x.npz")): {"reading", "embedding images"},
        ("index", str(run), "--images", str(photos), "--out", str(tmp_path / "index")): {
            "reading",
            "embedding images",
            "drawing the map of 32 images",
        },
        ("data", str(photos)): {"reading", "checking images"},
        ("report", str(run)): {"drawing the report"},
    }
    for words, wanted in verbs.items():
        begun.clear()
        assert main(list(words)) == 0
        assert {"reading" if what.startswith("reading") else what for what in begun} >= wanted, words
    said = capsys.readouterr()
    assert "\r" not in said.err
    count, classes = 32, 8
    plans = said.err.split("plan: ")[1:]
    assert plans[0].startswith(f"train on {photos}: items for train 16 of 4 classes, for validation 8 of 2 classes")
    for part in ("encoder tf_efficientnet_lite0 at 32 px, 128 dimensions", "loss multi_similarity(", "2 steps of"):
        assert part in plans[0]
    assert f"written to {run}" in plans[0]
    assert plans[1].startswith(f"embed {count} items of {classes} classes of photos by {run}, 128 dimensions")
    assert plans[2].startswith(f"index {count} images of {photos}: {count} new, 0 changed, 0 unchanged")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(photos), "--nmi", "false", "--quiet"]) == 0
    assert main(["index", str(run), "--images", str(photos), "--out", str(tmp_path / "index"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    capsys.readouterr()
    lines = [line for line in said.out.splitlines() if ": validation " in line]
    assert lines
    assert all(len(line) <= 100 for line in lines)
    log = [line for line in read_log(run / "log.jsonl") if "validation/map@r" in line]
    assert len([name for name in log[-1] if name.startswith("validation/")]) > 10


@pytest.mark.parametrize(
    "followed",
    [
        ("recall@1", "recall@10", "map@r", "loss_miner", "loss_all"),
        ("text_to_image/recall@1", "image_to_text/recall@1", "loss_miner"),
    ],
)
def test_lines_of_long_runs_are_not_wider_than_a_terminal(
    followed: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.0)
    run: Any = SimpleNamespace(
        config=SimpleNamespace(steps=10_000), step=0, task=SimpleNamespace(followed=followed), log=None
    )
    display = Display()
    with progress.showing():
        display.on_train_start(run)
        display.on_log(run, 9_990, {"train/loss": 12.3456})
        display.on_validation(run, 9_990, {f"validation/{name}": 0.5 for name in followed})
        time.sleep(0.6)
        display.on_train_end(run)
    said = capsys.readouterr()
    assert all(f"{name} 0.500" in said.out for name in followed)
    assert "training: 9,990 of 10,000 steps (99%)" in said.err
    assert all(len(line) <= 100 for line in (said.out + said.err).splitlines()), said


def test_how_long_the_other_steps_take_is_told_once_from_those_that_were_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(display_module, "perf_counter", lambda: clock[0])
    run: Any = SimpleNamespace(config=SimpleNamespace(steps=100, minutes=0, validation_interval=10))
    display = Display()
    with progress.showing():
        for step in range(1, 41):
            clock[0] += 2.0
            if step % 10 == 0:
                display.on_validate(run, step)
                clock[0] += 5.0
            if step == 1 or step % 10 == 0:
                display.on_look(run, step, step % 10 == 0)
    # 90 steps of 2 s and 9 validations of 5 s
    assert capsys.readouterr().out == (
        "the other 90 steps take about 3 min 45 s with their validations; then come test and report\n"
    )


def test_ranking_and_clustering_say_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: dict[str, tuple[int, int | None]] = {}
    kept = progress.work

    @contextmanager
    def note(what: str, *rest: Any, **named: Any) -> Iterator[progress.Work]:
        with kept(what, *rest, **named) as current:
            yield current
        ended[what] = current.done, current.total

    for module in (progress, nmi):
        monkeypatch.setattr(module, "work", note)
    rng = np.random.default_rng(0)
    evaluate(rng.normal(size=(300, 8)), np.arange(300) // 3)
    assert ended == {"ranking": (300, 300), "clustering": (20, 20)}
