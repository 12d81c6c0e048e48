"""Whatever a run leaves when it is stopped, killed or out of room, the same command and --resume go on from it."""

import errno
import json
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pullpush import files
from pullpush.errors import UserError
from pullpush.files import write
from pullpush.runs import folder as run_module
from pullpush.runs.checkpoint import load_checkpoint
from pullpush.runs.log import read_log
from pullpush.training import train
from pullpush.training.feature_cache import cached_features
from tests.support import alone

Options = dict[str, Any]


@pytest.fixture(scope="module")
def tiny(small: Options) -> Options:
    """A run of less than a second."""
    encoder = {"name": "test_resnet", "weights": "none", "size": 32, "dim": 8, "frozen_stages": 0}
    return {**small, "encoder": encoder, "steps": 2, "validate_every": 1, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def whole(tiny: Options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(**tiny, out=str(tmp_path_factory.mktemp("runs") / "whole"))


def end_of(run: Path) -> tuple[Any, ...]:
    """What must be equal to the last bit."""
    module = load_checkpoint(run / "checkpoints" / "last.pt")["module"]
    tensors = {name: tensor.numpy().tobytes() for name, tensor in module.items()}
    metrics = json.loads((run / "metrics.json").read_text())
    arrays = {path.name: path.read_bytes() for path in (run / "embeddings").iterdir()}
    return tensors, read_log(run / "log.jsonl"), metrics["test"], metrics["validation"], arrays


def leftovers(run: Path) -> list[str]:
    return [path.name for path in run.rglob("*") if path.suffix == ".part" or "partial" in path.name]


class Stop(Exception):
    pass


@pytest.mark.parametrize("again", ["the same command", "--resume"])
@pytest.mark.parametrize("at", ["environment", "save_tables", "hold"])
def test_a_run_without_a_checkpoint_begins_again(
    tiny: Options, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, again: str
) -> None:
    def stop(*_: Any) -> None:
        raise Stop

    module = {"environment": "runs.folder", "save_tables": "training.task", "hold": "runs.folder"}[at]
    monkeypatch.setattr(f"pullpush.{module}.{at}", stop)
    out = tmp_path / "run"
    with pytest.raises(Stop):
        train(**tiny, out=str(out))
    monkeypatch.undo()
    if again == "--resume" and at == "hold":
        with pytest.raises(UserError, match=r"no run folder.*give its command again"):
            train(resume=out)
        return
    train(resume=out) if again == "--resume" else train(**tiny, out=str(out))
    assert end_of(out) == end_of(whole)


def test_the_same_command_goes_on_and_another_one_is_refused(
    tiny: Options, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(run: Any, step: int) -> None:
        if step == 2:
            raise Stop

    out = tmp_path / "run"
    with pytest.raises(Stop):
        train(**tiny, out=str(out), callbacks=(stop,))
    with pytest.raises(UserError, match=r"exists, with another --optimizer\.lr, --steps: choose another --out"):
        train(**{**tiny, "steps": 5, "optimizer": {"lr": 1e-4}}, out=str(out))
    train(**tiny, out=str(out))
    assert "continuing after step 1" in capsys.readouterr().out
    assert end_of(out) == end_of(whole)
    with pytest.raises(UserError, match="exists and is finished"):
        train(**tiny, out=str(out))


def test_a_run_whose_data_are_gone_keeps_its_folder_if_it_holds_anything(tiny: Options, tmp_path: Path) -> None:
    gone = {**tiny, "data": {**tiny["data"], "source": str(tmp_path / "nowhere")}}
    with pytest.raises(UserError, match="nowhere"):
        train(**gone, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_configuration_of_another_program_is_kept(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("database: postgres\n")
    with pytest.raises(UserError, match="unknown option database"):
        train(out=str(tmp_path), quiet=True)
    assert (tmp_path / "config.yaml").read_text() == "database: postgres\n"


def test_a_configuration_without_data_is_no_run_to_go_on_with(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("steps: 2\n")
    with pytest.raises(UserError, match=r"names no data.*--data and another --out"):
        train(resume=tmp_path, quiet=True)
    assert (tmp_path / "config.yaml").read_text() == "steps: 2\n"


def test_only_one_process_trains_in_a_folder(tiny: Options, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def second(run: Any, step: int) -> None:
        for options in ({"resume": out}, {**tiny, "out": str(out)}):
            with pytest.raises(UserError, match=f"is being trained by process {os.getpid()}: wait until that"):
                train(**options)

    train(**tiny, out=str(out), callbacks=(second,))


def test_a_forked_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    with files.locked(tmp_path / "lock", "busy"):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    try:
        with files.locked(tmp_path / "lock", "busy"):
            assert (tmp_path / "lock").read_text() == str(os.getpid())
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def _with(values: Any, path: tuple[str, ...], new: Any) -> Any:
    return {**values, path[0]: _with(values[path[0]], path[1:], new)} if path else new


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("module",), {}),
        (("module",), {"other": torch.zeros(2)}),
        (("module",), [1]),
        (("optimizer",), {"state": {}, "param_groups": []}),
        (("optimizer", "param_groups"), 3),
        (("rng",), torch.zeros(3)),
        (("saved", "step"), -1),
        (("saved", "step"), 10**12),
        (("saved", "best"), {}),
        ((), {"model": {}}),
    ],
)
def test_a_checkpoint_of_something_else_is_named(
    tiny: Options, whole: Path, tmp_path: Path, where: tuple[str, ...], value: Any
) -> None:
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "config.yaml").write_bytes((whole / "config.yaml").read_bytes())
    state = _with(load_checkpoint(whole / "checkpoints" / "last.pt"), where, value)
    torch.save(state, out / "checkpoints" / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt.*damaged.*put a copy in its place, or remove .*begin again"):
        train(resume=out)


KILLED = """
import json, shutil, sys
from functools import partial
from pathlib import Path

import torch

torch.set_num_threads(1)  # no thread pool, so that forking is safe

from pullpush.errors import UserError
from pullpush.training import train
from pullpush.training.feature_cache import cached_features

from tests.support.killing import killed_before, spread
from tests.training.test_run_folder import end_of, leftovers

options, root, kills = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
out = root / "run"
command = partial(train, **options, out=str(out), quiet=True)
command()  # warms what the children then need not do
shutil.rmtree(out)
writes = killed_before(0, command)
expected, steps = end_of(out), spread(writes, kills)
for number, step in enumerate(steps):
    shutil.rmtree(out)
    assert killed_before(step, command) is None, step
    try:
        train(resume=out, quiet=True) if number % 2 else command()
    except UserError as error:
        finished = "is finished" in str(error)
        assert finished or number % 2 and "give its command again" in str(error), (step, error)
        finished or command()
    assert end_of(out) == expected, step
    assert not leftovers(out), (step, leftovers(out))
print(len(steps), "kills of", writes)
"""


@pytest.mark.parametrize("kills", [6, pytest.param(0, marks=pytest.mark.slow)])
def test_killed_at_folders_flushes_and_renames_it_ends_the_same(tiny: Options, tmp_path: Path, kills: int) -> None:
    """SIGKILL before six of them, from the first to the last, or before each; then the same command, or --resume."""
    ended = alone(KILLED, json.dumps(tiny), str(tmp_path), str(kills))
    assert ended.returncode == 0, ended.stderr
    done, _, _, writes = ended.stdout.split()
    assert int(writes) >= 40
    assert done == (str(kills) if kills else writes)


WRITES = 14


def test_a_full_disk_at_each_write_says_what_to_do_and_that_works(
    tiny: Options, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the first write, then at the second, and so on; each time there is room again after."""
    out, renamed, kept = tmp_path / "run", os.replace, []

    def full(source: Any, target: Any) -> None:
        if Path(target).name not in kept:
            kept.append(Path(target).name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        renamed(source, target)

    monkeypatch.setattr(write.os, "replace", full)
    said = []
    for attempt in range(2 * WRITES):
        try:
            train(**({"resume": out} if attempt % 2 and (out / "config.yaml").exists() else {**tiny, "out": str(out)}))
            break
        except UserError as error:
            said.append(str(error))
            assert "the disk is full; make room on it" in said[-1]
            assert "--resume" in said[-1] or "choose another --out" in said[-1]
            assert kept[-1] in said[-1]
            assert not leftovers(out)
    assert end_of(out) == end_of(whole)
    assert {
        "config.yaml",
        "environment.json",
        "items.parquet",
        "log.jsonl",
        "last.pt",
        "best.pt",
        "metrics.json",
        "classes_seen.csv",
        "test-before.npy",
        "test-after.npy",
        "findings.jsonl",
    } <= set(kept)


def test_a_log_on_a_full_disk_is_named(tiny: Options, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    log, kept = out / "log.jsonl", tmp_path / "log.jsonl"

    def fill(run: Any, step: int) -> None:
        if step == 1:
            log.rename(kept)
            log.symlink_to("/dev/full")

    with pytest.raises(UserError, match=r"can't write .*log\.jsonl': the disk is full; make room.*--resume"):
        train(**tiny, out=str(out), callbacks=(fill,))
    kept.replace(log)
    train(**tiny, out=str(out))
    assert end_of(out) == end_of(whole)


def test_the_folder_named_by_data_loss_and_time_is_new(tiny: Options) -> None:
    config = run_module.config_from(tiny)
    assert run_module.run_folder(config).parent == Path("runs")


BAD_CACHE = {
    "empty": lambda good: b"",
    "cut": lambda good: good[: len(good) // 2],
    "zeroed": lambda good: good[:128] + bytes(len(good) - 128),
    "garbage": lambda good: b"\xff" * len(good),
    "other rows": lambda good: _npy(np.ones((3, 2), np.float32)),
    "one bit": lambda good: good[:-1] + bytes([good[-1] ^ 1]),
}


def _npy(array: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def frozen(tiny: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "cache"))
    return {**tiny, "encoder": {**tiny["encoder"], "freeze": True}}


def test_a_bad_file_of_the_feature_cache_is_computed_anew(
    frozen: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(**frozen, out=str(tmp_path / "first"))
    assert "cached features" not in capsys.readouterr().out
    (cached,) = (tmp_path / "cache" / "features").iterdir()
    good = cached.read_bytes()
    for name, bad in BAD_CACHE.items():
        cached.write_bytes(bad(good))
        run = train(**frozen, out=str(tmp_path / name))
        assert f"the cached features {cached} are damaged and are computed anew" in capsys.readouterr().out
        assert end_of(run) == end_of(first)
        assert cached.read_bytes() == good


@pytest.mark.parametrize("why", ["full", "a file"])
def test_a_cache_that_cannot_be_written_is_done_without(
    frozen: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    expected = end_of(train(**frozen, out=str(tmp_path / "first")))
    folder = tmp_path / "other"
    monkeypatch.setenv("PULLPUSH_CACHE", str(folder))
    if why == "a file":
        folder.write_text("")
    else:
        renamed = os.replace

        def full(source: Any, target: Any) -> None:
            if Path(target).is_relative_to(folder):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            renamed(source, target)

        monkeypatch.setattr(write.os, "replace", full)
    capsys.readouterr()
    run = train(**frozen, out=str(tmp_path / "run"))
    assert "features are not kept for the next run: can't write" in capsys.readouterr().out
    assert end_of(run) == expected
    assert not leftovers(tmp_path)


def test_features_are_written_as_they_come_and_never_all_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path))
    whole = torch.randn(10, 3)
    seen: list[weakref.ref[torch.Tensor]] = []

    def parts(rows: torch.Tensor) -> Iterator[torch.Tensor]:
        for start in range(0, 10, 4):
            part = whole[start : start + 4].clone()
            seen.append(weakref.ref(part))
            yield part
            del part
            assert sum(each() is not None for each in seen) <= 1

    assert torch.equal(cached_features("key", 10, parts, []), whole)
    assert len(seen) == 3
    (file,) = (tmp_path / "features").iterdir()
    np.testing.assert_array_equal(np.load(file), whole.numpy())
    assert torch.equal(cached_features("key", 10, lambda rows: pytest.fail("they are there"), []), whole)
