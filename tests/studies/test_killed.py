"""Studies and searches that are killed at any moment, run twice at once, or whose files are damaged."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from pullpush.cli.main import main
from pullpush.files import locked
from tests.support import alone

MARGIN = ["study", "margin", "--losses", "circle", "--margins", "0.2,0.4"]
TUNE = ["tune", "--loss", "circle", "--trials", "3", "--over", "loss.margin=0.1:0.8", "optimizer.lr=1e-4:1e-2:log"]
STUDIES = {
    "margin": MARGIN,
    "losses": ["study", "losses", "--losses", "circle,triplet", "--seeds", "1"],
    "grid": ["study", "grid", "--over", "loss.margin=0.2,0.4", "--loss", "circle"],
    "memory": [
        *("study", "memory", "--losses", "contrastive", "--batches", "4", "--samples", "2", "--at", "4"),
        *("--ratios", "1", "--seeds", "1"),
    ],
    "drift": ["study", "drift", "--losses", "circle,triplet", "--steps", "20"],
    "tune": TUNE,
}

# Runs are played: the kills of real ones are in training/test_run_folder.py. What they write, they write as real ones.
PLAYED = """
import io, itertools, json, multiprocessing, os, shutil, signal, sys, time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np, optuna, pandas as pd, sqlalchemy, torch
from PIL import Image

torch.set_num_threads(1)  # no thread pool, so that forking is safe

from pullpush.cli.main import main
from pullpush.errors import UserError
from pullpush.reports import style
from pullpush.studies import memory, recorders, runner
from pullpush.runs import log
from pullpush.runs import folder as run_module
from pullpush.runs.checkpoint import save_checkpoint

studies, words, root, kills = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
jobs = sys.argv[5:]
from tests.support.killing import killed_before, spread

stall = root / "stall"
stream = io.BytesIO()
Image.new("RGB", (2, 2)).save(stream, "PNG")
TOWER = SimpleNamespace(entries=lambda split: torch.arange(24), embed=lambda rows, device, again: torch.eye(24)[rows])
TASK = SimpleNamespace(first=TOWER)


def played(config, resume, items, callbacks, quiet):
    folder = Path(config.out)
    run = SimpleNamespace(config=config, task=TASK, fabric=SimpleNamespace(device="cpu"))
    with run_module.hold(folder):
        run_module.prepare(folder, config, bool(resume))
        run_module.save_tables(folder, items, None)
        log.keep_until(folder / "log.jsonl", 0)
        save_checkpoint(folder / "checkpoints" / "last.pt", {})
        while stall.exists():
            time.sleep(0.05)
        score = config.loss.options.get("margin", 0.3) * (1 - config.optimizer.lr)
        for step in range(1, config.steps + 1):
            losses = {"train/loss": 1 / step, "validation/loss_miner": 0.5, "validation/loss_no_miner": 0.4}
            log.append(folder / "log.jsonl", {"step": step, "validation/recall@1": score, **losses})
            for callback in callbacks:
                callback(run, step)
        test = {"recall@1": score, "map@r": score / 2}
        metrics = {"test": {"before": test, "after": test}, "validation": {"map@r": score}, "steps": config.steps}
        seen = pd.DataFrame({"class": ["a"], "items": [1], "drawn": [1]})
        run_module.save_results(folder, seen, {**metrics, "seconds": 1.0})
    return folder


def saved(draw, path, **options):
    path.write_bytes(stream.getvalue())
    return style.Drawing(path, stream.getvalue(), stream.getvalue(), 1.0)


def cost():
    return pd.DataFrame([dict(dict.fromkeys(memory.COST, 1.0), places=size, storage="float32") for size in (0, 9)])


runner.train, style.save, memory.memory_cost = played, saved, cost
recorders.time = SimpleNamespace(perf_counter=lambda ticks=itertools.count(): next(ticks) / 2)


def end_of(out):
    '''Names of all files of the runs, and the content of all others.'''
    runs = sorted(str(path.relative_to(out)) for path in out.glob("runs/*/**/*") if path.suffix != ".part")
    told = {path.name: path for path in out.iterdir() if path.is_file() and path.name not in ("tune.db", ".lock")}
    return runs, {name: path.read_bytes().replace(str(out).encode(), b"") for name, path in told.items()}


def listen(count):
    for event in ("commit", "before_cursor_execute"):
        sqlalchemy.event.listen(sqlalchemy.Engine, event, count)


def end(words):
    assert main(words) == 0, words


def kill_at_writes(name, command):
    out = root / name / "study"
    again = [*command, "--out", str(out)]
    end(again)  # warms what the children then need not do
    shutil.rmtree(out)
    writes = killed_before(0, partial(end, again), listen=listen)
    expected, steps = end_of(out), spread(writes, kills)
    for number, step in enumerate(steps):
        shutil.rmtree(out)
        assert killed_before(step, partial(end, again), listen=listen) is None, (name, step)
        if killed_before(1 + number % 40, partial(end, again), listen=listen) is None:  # and early in the next call
            end(again)
        assert end_of(out) == expected, (name, step)
    print(name, len(steps), "kills of", writes, file=sys.stderr)
    return expected


def kill_the_parent(name, command, expected):
    '''Its processes are in the middle of a run each: they end by themselves, and the same command goes on.'''
    out, context = root / name / "study", multiprocessing.get_context("fork")
    shutil.rmtree(out)
    multiprocessing.get_context = lambda kind: context  # a spawned one would train really
    stall.write_text("")
    again = [*command, "--out", str(out), "--jobs", "2"]
    parent = os.fork()
    if not parent:
        os._exit(main(again))
    last = [path for path in expected[0] if path.endswith("last.pt")][:2]
    late = time.monotonic() + 60
    while not all((out / path).exists() for path in last):
        assert time.monotonic() < late
        time.sleep(0.05)
    os.kill(parent, signal.SIGKILL)
    assert os.waitpid(parent, 0)[1] == signal.SIGKILL
    for path in last:
        while True:
            try:
                with run_module.hold((out / path).parent.parent):
                    break
            except UserError as error:
                assert "wait until that has ended" in str(error)
                assert time.monotonic() < late, "a process of the study goes on without its parent"
                time.sleep(0.05)
    assert not any(out.glob("runs/*/metrics.json"))
    stall.unlink()
    end(again)
    assert end_of(out) == expected
    print(name, "killed with", len(last), "processes", file=sys.stderr)


for name, command in studies.items():
    ended = kill_at_writes(name, [*command, *words])
    if name in jobs:
        kill_the_parent(name, [*command, *words], ended)
"""


def played(studies: dict[str, list[str]], words: list[str], root: Path, kills: int, *jobs: str) -> list[str]:
    typed = [json.dumps(studies), json.dumps([word for word in words if "--steps" not in word]), str(root), str(kills)]
    done = alone(PLAYED, *typed, *jobs)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr.splitlines()


def test_every_study_is_killed_here(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    kinds = capsys.readouterr().out.partition("{")[2].partition("}")[0].split(",")
    assert [*kinds, "tune"] == list(STUDIES)


def test_killed_at_writes_the_same_command_ends_the_same(words: list[str], tmp_path: Path) -> None:
    """SIGKILL before five of the folders, flushes, renames and statements of the search's storage of each study, and
    early in the next call; and of a study with `--jobs`, whose processes end with it."""
    pytest.importorskip("optuna")
    said = played(STUDIES, words, tmp_path, 5, "margin")
    for name in STUDIES:
        assert any(line.startswith(f"{name} 5 kills of ") for line in said)
    assert "margin killed with 2 processes" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_killed_at_any_write_the_same_command_ends_the_same(words: list[str], tmp_path: Path, name: str) -> None:
    pytest.importorskip("optuna")
    said = played({name: STUDIES[name]}, words, tmp_path, 0)
    assert int(said[-1].split()[1]) >= 40


@pytest.mark.parametrize("command", [MARGIN, TUNE], ids=["study", "tune"])
def test_one_process_runs_a_study(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    pytest.importorskip("optuna")
    with locked(tmp_path / ".lock", "busy"):
        assert main([*command, *words, "--out", str(tmp_path)]) == 2
    assert f"is being run by process {os.getpid()}: wait until that has ended" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def searched(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("optuna")
    out = tmp_path_factory.mktemp("search") / "whole"
    assert main([*TUNE, *words, "--trials", "1", "--steps", "2", "--out", str(out)]) == 0
    return out


def _other_tables(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (a)")


@pytest.mark.parametrize("way", ["cut", "garbage", "zeroed", "other"])
def test_a_damaged_storage_is_named_and_the_cure_works(
    searched: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    out = tmp_path / "search"
    shutil.copytree(searched, out)
    path = out / "tune.db"
    good = path.read_bytes()
    damage = {
        "cut": good[: len(good) // 2],
        "garbage": b"\xff\x00" * 999,
        "zeroed": good[:100] + bytes(len(good) - 100),
    }
    if way == "other":
        _other_tables(path)
    else:
        path.write_bytes(damage[way])
    search = [*TUNE, *words, "--trials", "1", "--steps", "2", "--out", str(out)]
    assert main(search) == 2
    said = capsys.readouterr().err
    assert "tune.db' is damaged" in said
    assert "remove it, and the same command makes it again" in said
    written = (out / "runs" / "trial-0" / "metrics.json").stat().st_mtime_ns
    path.unlink() if way == "cut" else path.write_bytes(b"")
    assert main(search) == 0
    assert (out / "runs" / "trial-0" / "metrics.json").stat().st_mtime_ns == written  # the same trial, not run again
    assert (out / "table.csv").read_text() == (searched / "table.csv").read_text()
