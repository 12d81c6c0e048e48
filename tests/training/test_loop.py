"""The loop on real images: what it leaves behind, and that an interruption changes nothing."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from lightning_fabric.loggers.logger import Logger
from PIL import Image

import pullpush
from pullpush.errors import UserError
from pullpush.evaluation import evaluate_items
from pullpush.runs.checkpoint import load_checkpoint, save_checkpoint
from pullpush.runs.groups import DataConfig
from pullpush.runs.log import append, keep_until, read_log
from pullpush.training import Stopped, towers, train
from pullpush.training import run as run_module
from pullpush.training.callbacks import Callback
from pullpush.training.loop import make_items

Options = dict[str, Any]


@pytest.fixture(scope="module")
def finished(small: Options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(**small, out=str(tmp_path_factory.mktemp("runs") / "whole"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / "last.pt")["module"]


def assert_equal_runs(one: Path, other: Path) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0, msg=name)
    assert read_log(one / "log.jsonl") == read_log(other / "log.jsonl")
    results = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]


def test_run_folder_keeps_the_contract(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert {"data", "loss", "seconds", "test", "validation", "kept", "gain"} <= metrics.keys()
    for when in ("before", "after"):
        assert {"recall@1", "recall@10", "r_precision", "map@r", "nmi"} <= metrics["test"][when].keys()
        assert all(0 <= value <= 1 for value in metrics["test"][when].values())
    assert metrics["naming"]["knn@1"] == pytest.approx(metrics["test"]["after"]["recall@1"])
    assert metrics["naming"]["identification"][0]["shots"] == 1
    lines = read_log(finished / "log.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 13))
    validated = [line for line in lines if "validation/recall@1" in line]
    assert [line["step"] for line in validated] == [0, 4, 8, 12]
    assert all({"validation/loss_miner", "validation/loss_all"} <= line.keys() for line in validated)
    items = pullpush.Items.load(finished / "items.parquet")
    by_split = items.table.groupby("split")["label"].agg(set)
    assert not (by_split["train"] & by_split["test"]) | (by_split["train"] & by_split["validation"])
    splits = (
        ("test", "before"),
        ("test", "after"),
        ("train", "after"),
        ("validation", "before"),
        ("validation", "after"),
    )
    for split, when in splits:
        assert len(np.load(finished / "embeddings" / f"{split}-{when}.npy")) == len(items.split(split))


def test_model_gives_the_embeddings_of_the_run(finished: Path) -> None:
    test = pullpush.Items.load(finished / "items.parquet").split("test")
    embeddings = pullpush.load(finished).embed([test.path(row) for row in range(len(test))])
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embeddings, np.load(finished / "embeddings" / "test-after.npy"), atol=1e-5)


def test_what_a_few_queries_find_is_written_down(finished: Path) -> None:
    lines = read_log(finished / "retrieved.jsonl")
    assert [line["step"] for line in lines] == [0, 4, 8, 12]
    labels = pullpush.Items.load(finished / "items.parquet").split("validation").labels
    for line in lines:
        assert line["queries"] == lines[0]["queries"]
        assert len(set(labels[line["queries"]].tolist())) == len(line["queries"]) == len(labels.unique())
        for query, hits in zip(line["queries"], line["hits"], strict=True):
            assert query not in hits
            assert len(set(hits) - {-1}) == min(8, len(labels) - 1)


def test_training_lowers_the_loss(small: Options, tmp_path: Path) -> None:
    pretrained = {"size": 32, "dim": 16}
    run = train(**{**small, "encoder": pretrained, "steps": 24, "validate_every": 24}, out=str(tmp_path / "run"))
    losses = [line["train/loss"] for line in read_log(run / "log.jsonl") if "train/loss" in line]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])


def test_config_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    values = yaml.safe_load((finished / "config.yaml").read_text())
    again = train(**{**values, "out": str(tmp_path / "again")})
    assert_equal_runs(finished, again)


def test_sigterm_saves_and_resume_ends_the_same(
    small: Options, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = run_module.learning_rate

    def kill_at_seven(step: int, *rest: Any) -> float:
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return rate(step, *rest)

    monkeypatch.setattr(run_module, "learning_rate", kill_at_seven)
    folder = tmp_path / "run"
    with pytest.raises(Stopped, match="--resume"):
        train(**small, out=str(folder))
    monkeypatch.undo()
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["saved"]["step"] == 7
    train(resume=folder)
    assert_equal_runs(finished, folder)


def test_killed_at_random_steps_and_resumed_ends_the_same(small: Options, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start = f"from pullpush.training import train; train(**{ ({**small, 'out': str(folder)})!r})"
    go_on = f"from pullpush.training import train; train(resume={str(folder)!r})"
    draw = np.random.default_rng(int(time.time()))
    for code, lines in ((start, 4), (go_on, 8)):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        log = folder / "log.jsonl"
        while process.poll() is None and not (log.exists() and len(read_log(log)) >= lines):
            time.sleep(0.002)
        time.sleep(float(draw.uniform(0, 0.3)))
        process.kill()
        error = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL or not process.returncode, error.decode()
    if not (folder / "metrics.json").exists():
        train(resume=folder)
    assert_equal_runs(finished, folder)


def test_frozen_backbone_trains_the_head_on_cached_features(
    small: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULLPUSH_CACHE", str(tmp_path / "cache"))
    options = {**small, "encoder": {**small["encoder"], "freeze": True}}
    monkeypatch.setattr(towers.image, "load_pixels", None)  # the images of all items are never in memory together
    run = train(**options, out=str(tmp_path / "one"))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert len(files) == 1
    again = train(**options, out=str(tmp_path / "two"))
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert_equal_runs(run, again)
    test = pullpush.Items.load(run / "items.parquet").split("test")
    embeddings = pullpush.load(run).embed([test.path(row) for row in range(len(test))])
    np.testing.assert_allclose(embeddings, np.load(run / "embeddings" / "test-after.npy"), atol=1e-4)


@pytest.mark.parametrize("loss", ["triplet", "proxy_anchor", "soft_triple", "margin", "siglip"])
def test_losses_with_proxies_and_learned_options_train_and_resume(small: Options, tmp_path: Path, loss: str) -> None:
    run = train(**{**small, "loss": loss, "steps": 3, "checkpoint_every": 2}, out=str(tmp_path / "run"))
    state = load_checkpoint(run / "checkpoints" / "last.pt")["module"]
    learned = [name for name in state if name.startswith("criterion.") and ("weight" in name or "learned" in name)]
    assert bool(learned) == (loss != "triplet")


def test_matryoshka_starts_where_the_run_would_and_resumes_to_the_bit(
    small: Options, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**small, "matryoshka": [8, 4], "memory": {"size": 0.5}, "steps": 4, "checkpoint_every": 2}
    whole = train(**options, out=str(tmp_path / "whole"))
    before = [np.load(run / "embeddings" / "test-before.npy") for run in (whole, finished)]
    np.testing.assert_array_equal(*before)
    chosen = json.loads((whole / "metrics.json").read_text())["compression"]
    scores = {name: sum(each.values()) for name, each in chosen["validation"].items()}
    assert {name: [*each] for name, each in chosen["validation"].items()} == {key: ["8", "4"] for key in scores}
    assert scores[chosen["reduction"]] == max(scores.values())
    model = pullpush.load(whole)
    assert model.compression.reduction == chosen["reduction"]
    validation = np.load(whole / "embeddings" / "validation-after.npy")
    items = pullpush.Items.load(whole / "items.parquet").split("validation")
    for name, each in chosen["validation"].items():
        short = replace(model.compression, reduction=name).reduce(validation, 8)
        assert evaluate_items(short, items, nmi=False).metrics["map@r"] == pytest.approx(each["8"])
    rate = run_module.learning_rate
    monkeypatch.setattr(run_module, "learning_rate", lambda step, *rest: rate(step, *rest) if step < 3 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(**options, out=str(tmp_path / "cut"))
    monkeypatch.undo()
    train(resume=tmp_path / "cut")
    assert_equal_runs(whole, tmp_path / "cut")
    with pytest.raises(UserError, match="--matryoshka 16: prefixes are shorter than the embeddings, which have 16"):
        train(**{**options, "matryoshka": [16]}, out=str(tmp_path / "long"))


def test_memory_is_filled_and_saved(small: Options, tmp_path: Path) -> None:
    run = train(**{**small, "memory": {"size": 0.5, "start_step": 2}}, out=str(tmp_path / "run"))
    entered = load_checkpoint(run / "checkpoints" / "last.pt")["module"]["criterion.memory.entered"]
    assert len(entered) == 8
    assert (entered >= 2).all()


def test_nan_ends_the_run_with_the_step(small: Options, tmp_path: Path) -> None:
    def poison(run: Any, step: int) -> None:
        if step == 2:
            next(run.task.step.parameters()).data.fill_(float("nan"))

    with pytest.raises(UserError, match=r"the loss is (nan|inf).* at step \d+.*lr"):
        train(**small, out=str(tmp_path / "run"), callbacks=[poison])


def test_existing_run_is_never_overwritten(small: Options, finished: Path) -> None:
    before = (finished / "config.yaml").read_bytes()
    with pytest.raises(UserError, match=r"exists.*--resume"):
        train(**small, out=str(finished))
    assert (finished / "config.yaml").read_bytes() == before


def test_damaged_checkpoint_is_named(finished: Path, tmp_path: Path) -> None:
    broken = tmp_path / "run" / "checkpoints"
    broken.mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_bytes((finished / "config.yaml").read_bytes())
    whole = (finished / "checkpoints" / "last.pt").read_bytes()
    (broken / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"last\.pt.*damaged"):
        train(resume=tmp_path / "run")


def test_checkpoint_on_a_full_disk_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="disk is full; make room on it, then go on with --resume"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_log_drops_steps_that_are_done_again_and_a_line_cut_off(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a"')
    keep_until(tmp_path / "log.jsonl", 1)
    append(tmp_path / "log.jsonl", {"step": 2, "a": 5.0})
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1, "a": 1}, {"step": 2, "a": 5.0}]


def test_a_kill_while_the_log_is_written_anew_loses_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')

    def killed(value: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(json, "dumps", killed)
        with pytest.raises(KeyboardInterrupt):
            keep_until(tmp_path / "log.jsonl", 2)
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 2, 3]
    keep_until(tmp_path / "log.jsonl", 2)
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 2]


def test_learning_rate_rises_and_falls() -> None:
    rates = [run_module.learning_rate(step, 100, 0.1) for step in range(1, 101)]
    assert rates[9] == max(rates) == 1.0
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[9:]))
    assert 0 < rates[-1] < 0.01
    assert run_module.learning_rate(1, 100, 0.0) < 1.0


def test_images_decoded_by_workers_and_resumed_end_the_same(small: Options, tmp_path: Path) -> None:
    options = {**small, "data": {**small["data"], "cache": "no", "workers": 1}, "steps": 4, "checkpoint_every": 2}
    whole = train(**options, out=str(tmp_path / "whole"))

    class Enough(Exception):
        pass

    def stop(run: Any, step: int) -> None:
        if step == 3:
            raise Enough

    with pytest.raises(Enough):
        train(**options, out=str(tmp_path / "cut"), callbacks=(stop,))
    train(resume=tmp_path / "cut")
    assert_equal_runs(whole, tmp_path / "cut")


def test_bfloat16_trains(small: Options, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = train(**{**small, "precision": "bf16", "steps": 2}, out=str(tmp_path / "run"))
    assert "Automatic Mixed Precision" not in "".join(capfd.readouterr())  # the library has nothing to say
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights(run).values())
    assert len([line for line in read_log(run / "log.jsonl") if "train/loss" in line]) == 2


def test_a_split_of_one_class_is_told(tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
        for n in range(2):
            Image.new("RGB", (8, 8), (30 * n, 60, 90)).save(tmp_path / name / f"{n}.png")
    said: list[str] = []
    make_items(DataConfig(str(tmp_path), validation=0.1), 0, said.append)
    assert [line for line in said if "one class only" in line and line.startswith("validation")]
    assert not [line for line in said if line.startswith("test has one")]


class Remembering(Logger):
    """A tracker of the caller's."""

    name, version = "remembering", 0

    def __init__(self) -> None:
        self.lines: list[tuple[int | None, dict[str, float]]] = []
        self.options: Any = None
        self.status = ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.lines.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.options = params

    def finalize(self, status: str) -> None:
        self.status = status


def test_trackers_take_what_the_log_takes(small: Options, tmp_path: Path) -> None:
    mine = Remembering()
    run = train(
        **{**small, "trackers": ["csv"], "tensorboard": False}, loggers=[mine], out=str(tmp_path / "run"), quiet=True
    )
    log = [(line.pop("step"), line) for line in read_log(run / "log.jsonl")]
    assert mine.lines == log
    assert (mine.options["steps"], mine.status) == (small["steps"], "success")
    (table,) = run.rglob("metrics.csv")
    assert pd.read_csv(table)["train/loss"].dropna().tolist() == pytest.approx(
        [line["train/loss"] for _, line in log if "train/loss" in line]
    )
    assert not (run / "tensorboard").exists()


def test_mlflow_takes_what_the_log_takes(small: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a store of its own, beside the run folder; a run that goes on stays one run."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pytest.importorskip("pytorch_lightning", reason="MLflow's logger comes with the extra mlflow")
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow")
    stopping = lambda run, step: os.kill(os.getpid(), signal.SIGTERM) if step == 4 else None  # noqa: E731
    with pytest.raises(Stopped):
        train(**{**small, "trackers": ["mlflow"], "steps": 8}, out=str(tmp_path / "run"), callbacks=[stopping])
    run = train(resume=tmp_path / "run", quiet=True)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("pullpush")
    (held,) = client.search_runs([experiment.experiment_id])
    assert (held.info.run_name, held.info.status, held.data.params["steps"]) == ("run", "FINISHED", "8")
    losses = {line["step"]: line["train/loss"] for line in read_log(run / "log.jsonl") if "train/loss" in line}
    for point in client.get_metric_history(held.info.run_id, "train/loss"):
        assert point.value == pytest.approx(losses.pop(point.step))
    assert not losses
    assert "validation/recall1" in held.data.metrics
    assert not logging.getLogger("pullpush").disabled


def test_trackio_takes_what_the_log_takes(
    small: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In its own store; a run that goes on stays one run, one that begins anew is another."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))  # which it reads once, as it is imported
    pytest.importorskip("trackio", reason="the extra trackio")
    from trackio.sqlite_storage import SQLiteStorage

    options = {**small, "trackers": ["trackio"], "steps": 8}
    stopping = lambda run, step: os.kill(os.getpid(), signal.SIGTERM) if step == 4 else None  # noqa: E731
    with pytest.raises(Stopped):
        train(**options, out=str(tmp_path / "run"), callbacks=[stopping])
    run = train(resume=tmp_path / "run", quiet=True)
    assert "trackio" not in capsys.readouterr().out.lower()
    (held,) = SQLiteStorage.get_run_records("pullpush")
    assert held["name"] == "run"
    config = SQLiteStorage.get_run_config("pullpush", "run", run_id=held["id"])
    assert config is not None
    assert config["steps"] == 8
    lines = SQLiteStorage.get_logs("pullpush", "run", run_id=held["id"])
    told = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    log = read_log(run / "log.jsonl")
    assert told == pytest.approx({line["step"]: line["train/loss"] for line in log if "train/loss" in line})
    assert any("validation/recall@1" in line for line in lines)

    train(**{**options, "steps": 1}, out=str(tmp_path / "again" / "run"), quiet=True)
    assert len(SQLiteStorage.get_run_records("pullpush")) == 2


@pytest.mark.parametrize("name", ["nowhere", "os.path.join", "no_such_package.Logger"])
def test_an_unknown_tracker_is_named_before_anything_is_made(small: Options, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"--trackers {name} "):
        train(**small, trackers=[name], out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_callbacks_hear_a_run_from_its_setup_to_its_test(small: Options, tmp_path: Path) -> None:
    heard: list[str] = []

    class Listener(Callback):
        def __getattribute__(self, name: str) -> Any:
            if name in vars(Callback):  # Fabric asks for some of its own
                heard.append(name)
            return object.__getattribute__(self, name)

    train(**small, callbacks=[Listener()], out=str(tmp_path / "run"), quiet=True)
    order = list(dict.fromkeys(heard))
    assert order[:2] == ["on_setup", "on_begin"]
    assert order[-3:] == ["on_train_end", "on_finish", "on_test"]
    assert {"on_step", "on_log", "on_validate", "on_validation", "on_best", "on_look", "on_checkpoint"} < set(order)
    assert heard.count("on_step") == small["steps"]
