"""Studies and searches that are killed at any moment, run twice at once, or whose files are damaged."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pullpush.cli.main import main
from pullpush.files import locked

MARGIN = ["study", "margin", "--losses", "circle", "--margins", "0.2,0.4"]
TUNE = ["tune", "--loss", "circle", "--trials", "3", "--over", "loss.margin=0.1:0.8", "optimizer.lr=1e-4:1e-2:log"]

# Runs are played: the kills of real ones are in training/test_run_folder.py. What they write, they write as real ones.
PLAYED = """
import io, json, os, shutil, signal, sys
from pathlib import Path
from types import SimpleNamespace

import optuna, sqlalchemy, torch
from PIL import Image

torch.set_num_threads(1)  # no thread pool, so that forking is safe

from pullpush.cli.main import main
from pullpush.reports import style
from pullpush.studies import runner
from pullpush.training import run as run_module
from pullpush.training.checkpoint import save_checkpoint

words, root, every = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
stream = io.BytesIO()
Image.new("RGB", (2, 2)).save(stream, "PNG")


def played(config, resume, items, callbacks, quiet):
    folder = Path(config.out)
    with run_module.hold(folder):
        run_module.prepare(folder, config, bool(resume))
        run_module.save_items(folder, items)
        save_checkpoint(folder / "checkpoints" / "last.pt", {})
        for step in range(1, config.steps + 1):
            for callback in callbacks:
                callback(SimpleNamespace(config=config), step)
        score = config.loss["margin"] * (1 - config.optimizer.lr)
        test = {"recall@1": score, "map@r": score / 2}
        metrics = {"test": {"before": test, "after": test}, "validation": {"map@r": score}, "steps": config.steps}
        run_module.save_metrics(folder, {**metrics, "seconds": 1.0})
    return folder


def saved(draw, path):
    path.write_bytes(stream.getvalue())
    return style.Picture(path, stream.getvalue(), stream.getvalue(), 1.0)


runner.train, style.save = played, saved


def end_of(out):
    files = {path.name: path.read_text() for path in (out / "table.csv", out / "best.yaml") if path.exists()}
    runs = sorted(str(path.relative_to(out)) for path in out.glob("runs/*/*") if path.suffix != ".part")
    return files["table.csv"], files.get("best.yaml", "").replace(str(out), ""), runs


def die_before(step):
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function):
        def call(*args, **kwargs):
            count()
            return function(*args, **kwargs)

        return call

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)
    Path.mkdir = counted(Path.mkdir)
    for event in ("commit", "before_cursor_execute"):
        sqlalchemy.event.listen(sqlalchemy.Engine, event, count)


def killed_at(step, out):
    child = os.fork()
    if not child:
        try:
            die_before(step)
            os._exit(main([*words, "--out", str(out)]))
        finally:
            os._exit(9)
    return os.waitpid(child, 0)[1]


assert main([*words, "--out", str(root / "whole")]) == 0
expected, out = end_of(root / "whole"), root / "killed"
status, step, kills = 1, 1, 0
while status:
    status = killed_at(step, out)
    assert status in (0, signal.SIGKILL), (step, status)
    if status:
        killed_at(1 + kills % 40, out)  # and early in the next call
    if status:
        assert main([*words, "--out", str(out)]) == 0, step
    assert end_of(out) == expected, step
    shutil.rmtree(out)
    step, kills = step + every, kills + 1
print(kills, "kills", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("command", "every"),
    [
        pytest.param(MARGIN, 23, id="study"),
        pytest.param(TUNE, 61, id="tune"),
        pytest.param(MARGIN, 1, id="study-all", marks=pytest.mark.slow),
        pytest.param(TUNE, 1, id="tune-all", marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_write_the_same_command_ends_the_same(
    words: list[str], tmp_path: Path, command: list[str], every: int
) -> None:
    """SIGKILL before every so manieth folder, flush, rename and statement of the search's storage, twice in a row."""
    pytest.importorskip("optuna")
    typed = json.dumps([*command, *words])
    done = subprocess.run(
        [sys.executable, "-c", PLAYED, typed, str(tmp_path), str(every)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stderr.split()[-2]) >= max(2, 60 // every)


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
